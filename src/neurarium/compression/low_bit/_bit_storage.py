"""Arbitrary data in the weight bits that are not trained."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor, nn

from neurarium.layers.low_bit._bitwise import bit_layers

_MARK = b"bits"
_HEADER = len(_MARK) + 8 + 4


def capacity(module: nn.Module) -> int:
    """Bytes that `store` can take: a bit per untrained plane and weight, less a header of 16 bytes."""
    total = sum(len(p.untrained) * x[0].numel() if len(x) else _free(p) for _, p, x in bit_layers(module))
    return max(0, total // 8 - _HEADER)


def store(module: nn.Module, payload: bytes) -> None:
    """Write data into the untrained planes, lowest first, layer by layer; what they do not need stays as it was.

    Do it before training: the trained planes then learn around it.

    Raises:
        ValueError: the module has no untrained bits, or too few.
    """
    layers = [(p, p.frozen_bits()) for _, p, _ in bit_layers(module) if p.untrained]
    if not layers:
        raise ValueError("the module has no untrained bits: build it with bitwise(module, bits, trainable=...)")
    if len(payload) > capacity(module):
        planes = ", ".join(f"{len(p.untrained)} x {bits.shape[1]:,}" for p, bits in layers)
        raise ValueError(
            f"payload has {8 * len(payload):,} bits, the untrained planes x weights ({planes}) hold "
            f"{8 * capacity(module):,}"
        )
    whole = _MARK + len(payload).to_bytes(8, "little") + zlib.crc32(payload).to_bytes(4, "little") + payload
    flat = torch.cat([bits.flatten() for _, bits in layers])
    given = torch.from_numpy(np.unpackbits(np.frombuffer(whole, dtype=np.uint8))).bool()
    flat[: len(given)] = given.to(flat.device)
    for (parametrization, bits), part in zip(layers, flat.split([b.numel() for _, b in layers]), strict=True):
        parametrization.freeze(part.view_as(bits))


def read(module: nn.Module) -> bytes:
    """The data that `store` wrote.

    Raises:
        ValueError: there are none, or they were damaged.
    """
    bits = [p.frozen_bits().flatten() for _, p, _ in bit_layers(module) if p.untrained]
    found = _bytes(torch.cat(bits)) if bits else b""
    if found[: len(_MARK)] != _MARK:
        raise ValueError("the module's untrained bits hold no stored data")
    length = int.from_bytes(found[len(_MARK) : len(_MARK) + 8], "little")
    payload = found[_HEADER : _HEADER + length]
    if zlib.crc32(payload).to_bytes(4, "little") != found[_HEADER - 4 : _HEADER]:
        raise ValueError("the data stored in the module's bits are damaged: their checksum does not fit")
    return payload


def _free(parametrization: nn.Module) -> int:
    bits: Tensor = parametrization.frozen_bits()  # type: ignore[operator]
    return bits.numel()


def _bytes(bits: Tensor) -> bytes:
    return bytes(np.packbits(bits.cpu().numpy()).tobytes())
