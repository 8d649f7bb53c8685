"""A trained network as bytes, from which it can be made again."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from neurarium.compression.subspace._arithmetic_coding import decode, encode
from neurarium.compression.subspace._subspace_model import SubspaceModel

HEADER = ">IHB"  # seed, dimensions, levels


@dataclass(frozen=True)
class CodedModel:
    """A network written down: seed, sizes, codebook in half precision, frequencies, and the arithmetic code.

    Args:
        data: the bytes. What makes a network of the seed (`build`) is not in them: it is known to both sides.
    """

    data: bytes

    @property
    def bits(self) -> int:
        """Length of the code."""
        return 8 * len(self.data)

    @property
    def prefixed_bits(self) -> float:
        """With its own length written before it: of all such codes no one begins another."""
        return self.bits + 2 * math.log2(max(self.bits, 1))

    def decode(self, build: Callable[[], nn.Module]) -> SubspaceModel:
        """The network that was coded; its predictions are those of the coded one to the last bit, on the same machine.

        Args:
            build: as for the `SubspaceModel` that was coded.

        Raises:
            ValueError: the bytes are cut short.
        """
        start = struct.calcsize(HEADER)
        if len(self.data) < start:
            raise ValueError(f"data must hold a header of {start} bytes, not {len(self.data)}")
        seed, dim, levels = struct.unpack_from(HEADER, self.data)
        width = _count_bits(dim)
        table = start + 2 * levels
        code = table + -(-levels * width // 8)
        if len(self.data) < code:
            raise ValueError(f"data must hold the codebook and its frequencies, {code} bytes, not {len(self.data)}")
        codebook = np.frombuffer(self.data, ">f2", levels, start).astype(np.float32)
        packed = int.from_bytes(self.data[table:code], "big")
        counts = [packed >> (width * (levels - 1 - k)) & ((1 << width) - 1) for k in range(levels)]
        indices = torch.tensor(decode(self.data[code:], counts, dim))
        model = SubspaceModel(build, dim, seed)
        _set(model, torch.from_numpy(codebook), indices)
        return model


def code_model(model: SubspaceModel) -> CodedModel:
    """Write a quantised model down; its codebook is rounded to what is written.

    Args:
        model: one after `SubspaceModel.quantize`, trained or not.

    Raises:
        ValueError: there is no codebook yet, more than 65,535 coordinates, or a seed that does not fit in 32 bits.
    """
    indices = model.indices()
    assert model.codebook is not None
    dim, levels = len(indices), len(model.codebook)
    if dim > 65_535 or not 0 <= model.seed < 2**32:
        raise ValueError(f"dim must be at most 65,535 and seed fit in 32 bits, not {dim} and {model.seed}")
    codebook = model.codebook.detach().cpu().to(torch.float16)
    counts = torch.bincount(indices.cpu(), minlength=levels).tolist()
    width, packed = _count_bits(dim), 0
    for count in counts:
        packed = packed << width | count
    data = struct.pack(HEADER, model.seed, dim, levels)
    data += codebook.numpy().astype(">f2").tobytes() + packed.to_bytes(-(-levels * width // 8), "big")
    data += encode(indices.tolist(), counts)
    _set(model, codebook, indices)
    return CodedModel(data)


def _count_bits(dim: int) -> int:
    """Bits that hold any count of coordinates."""
    return dim.bit_length()


@torch.no_grad()
def _set(model: SubspaceModel, codebook: torch.Tensor, indices: torch.Tensor) -> None:
    """Coordinates exactly at entries of a codebook."""
    entries = codebook.to(model.coordinates)
    model.codebook = nn.Parameter(entries)
    model.coordinates.copy_(entries[indices.to(entries.device)])
