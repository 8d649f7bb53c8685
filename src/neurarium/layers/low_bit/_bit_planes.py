"""Which interval each number falls in, one to four bits each, at the speed of the processor's memory.

`few_bit_activation` on the CPU stands on these two functions. Codes are kept as planes: plane i holds bit i of every
code, eight codes to a byte. Comparisons alone make a plane, and up to three bits four codes are looked up at once. In
NumPy: its comparisons to booleans and its look-ups are several times as fast as torch's.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from neurarium.layers.low_bit._bit_packing import pack_bits, unpack_bits
from neurarium.layers.low_bit._derivative_levels import Fold

MOST_BITS = 4
FOUR_AT_ONCE = 3  # up to so many bits: the table of four codes has 2 ** (4 * bits) rows and must stay in the cache
CHUNK = 1 << 18  # numbers handled at a time, for the same reason; a multiple of 8


def encode_planes(
    x: Float[Tensor, numbers], thresholds: Sequence[float], bits: int, fold: Fold, center: float
) -> UInt8[Tensor, bytes]:
    """The codes that `PiecewiseConstant` gives to ``x``, packed into exactly ``ceil(bits * numbers / 8)`` bytes.

    The planes of the first 8 M numbers, M bytes each, from the lowest bit, and then the last few codes as `pack_bits`
    has them.

    Args:
        x: on the CPU.
        thresholds: increasing; as many as ``fold`` and ``bits`` ask for.
        bits: 1 to 4.
        fold: the symmetry that the codes use.
        center: the point about which it holds.
    """
    count = len(x) // 8
    packed = torch.empty(-(-bits * len(x) // 8), dtype=torch.uint8)
    planes = packed[: bits * count].numpy().reshape(bits, count)
    for start in range(0, 8 * count, CHUNK):
        part = x[start : min(start + CHUNK, 8 * count)]
        for plane, held in zip(planes, _bits(part, thresholds, bits, fold, center), strict=True):
            plane[start // 8 : (start + len(part)) // 8] = np.packbits(held, bitorder="little")
    if len(x) % 8:
        rest = _bits(x[8 * count :], thresholds, bits, fold, center)
        codes = np.sum([held.astype(np.uint8) << i for i, held in enumerate(rest)], axis=0, dtype=np.uint8)
        packed[bits * count :] = pack_bits(torch.from_numpy(codes), bits)
    return packed


def decode_planes(
    packed: UInt8[Tensor, bytes], levels: Float[Tensor, levels], grad: Float[Tensor, numbers]
) -> Float[Tensor, numbers]:
    """``levels[codes] * grad`` for the codes that `encode_planes` packed."""
    bits = len(levels).bit_length() - 1
    count, together = len(grad) // 8, 4 if bits <= FOUR_AT_ONCE else 1
    levels = levels.to(grad.dtype)
    result = torch.empty(grad.shape, dtype=grad.dtype)
    moved = f"V{together * grad.element_size()}"  # numbers that are moved as one
    rows = (levels[_four_codes(bits)] if together == 4 else levels).view(torch.uint8).numpy().view(moved).ravel()
    slots = result[: 8 * count].view(torch.uint8).numpy().view(moved)
    planes = packed[: bits * count].numpy().reshape(bits, count)
    place = _workspace("index", (8 * min(count, CHUNK // 8) // together,), np.dtype(np.intp))
    for start in range(0, count, CHUNK // 8):
        end = min(start + CHUNK // 8, count)
        first, last = 8 * start, 8 * end
        index = place[: (last - first) // together]
        np.copyto(index, (_rows_of_four if together == 4 else _codes)(planes[:, start:end]))
        np.take(rows, index, out=slots[first // together : last // together], mode="clip")
        result[first:last].mul_(grad[first:last])
    if len(grad) % 8:
        codes = unpack_bits(packed[bits * count :], bits, len(grad) % 8)
        result[8 * count :] = levels[codes.int()] * grad[8 * count :]
    return result


_held = threading.local()


def _workspace(name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array of this thread's that is used again: fresh memory costs more than what is done with it here."""
    size = math.prod(shape)
    flat = getattr(_held, name, None)
    if flat is None or flat.dtype != dtype or len(flat) < size:
        flat = np.empty(size, dtype)
        setattr(_held, name, flat)
    return flat[:size].reshape(shape)


def _bits(x: Tensor, thresholds: Sequence[float], bits: int, fold: Fold, center: float) -> Sequence[np.ndarray]:
    """Bit i of every code, as booleans, until the next call.

    A code is the number of thresholds below, so bit i changes at every 2^i-th of them: it is their exclusive or.
    """
    numbers = (x if x.dtype in (torch.float32, torch.float64) else x.float()).detach().numpy()
    kind = numbers.dtype.type
    over = _workspace("over", (len(thresholds) + 1, len(x)), np.dtype(bool))
    place = numbers
    if fold != "none":
        place = _workspace("place", (len(x),), numbers.dtype)
        np.abs(np.subtract(numbers, kind(center), out=place) if center else numbers, out=place)
    for held, limit in zip(over, thresholds, strict=False):
        np.greater(place, kind(limit), out=held)
    counted = bits - (fold == "odd")
    for i in reversed(range(counted)):  # bit i has the multiples of 2^i, bit i + 1 every other one of them
        held = over[2**i - 1]
        for other in range(3 * 2**i - 1, len(thresholds), 2 ** (i + 1)):
            held ^= over[other]
        if i + 1 < counted:
            held ^= over[2 ** (i + 1) - 1]
    found = [over[2**i - 1] for i in range(counted)]
    return [*found, np.greater(numbers, kind(center), out=over[-1])] if fold == "odd" else found


def _codes(planes: np.ndarray) -> np.ndarray:
    """The code of every number."""
    codes = np.unpackbits(planes[0], bitorder="little")
    for i, plane in enumerate(planes[1:], start=1):
        codes |= np.unpackbits(plane, bitorder="little") << i
    return codes


def _rows_of_four(planes: np.ndarray) -> np.ndarray:
    """Rows of `_four_codes`, two per byte of a plane: the lower half of a byte comes first."""
    both, halves = _workspace("rows", (2, planes.shape[1]), np.dtype("<u4"))
    both.fill(0)
    for i, plane in enumerate(planes):
        np.copyto(halves, plane)
        halves *= 0x1001 << 4 * i  # one copy with its lower half in place, one with its upper half 16 bits on
        halves &= 0xF000F << 4 * i
        both |= halves
    return both.view("<u2")


@functools.cache
def _four_codes(bits: int) -> Tensor:
    """Row -> the four codes whose bits i are bits 4 i to 4 i + 3 of its number."""
    row = torch.arange(2 ** (4 * bits)).unsqueeze(1)
    place = torch.arange(4)
    return torch.stack([((row >> (4 * i + place)) & 1) << i for i in range(bits)]).sum(0)
