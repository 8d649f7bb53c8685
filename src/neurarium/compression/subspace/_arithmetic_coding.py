"""Arithmetic coding with known frequencies: whole numbers to bits and back, within two bits of their entropy."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

BITS = 32
FULL, HALF, QUARTER = 1 << BITS, 1 << (BITS - 1), 1 << (BITS - 2)


def encode(symbols: Sequence[int], counts: Sequence[int]) -> bytes:
    """Code symbols, each at the price of its frequency (Witten, Neal and Cleary, 1987).

    Args:
        symbols: numbers below ``len(counts)``.
        counts: how often each occurs, or an estimate; positive for all that occur.

    Raises:
        ValueError: a symbol has no count.
    """
    edges = list(itertools.accumulate(counts, initial=0))
    low, high, waiting, bits = 0, FULL - 1, 0, []

    def put(bit: int) -> None:
        nonlocal waiting
        bits.extend([bit] + [1 - bit] * waiting)
        waiting = 0

    for symbol in symbols:
        if not 0 <= symbol < len(counts) or counts[symbol] < 1:
            raise ValueError(f"the symbol {symbol} has no count")
        span = high - low + 1
        high = low + span * edges[symbol + 1] // edges[-1] - 1
        low = low + span * edges[symbol] // edges[-1]
        while True:
            if high < HALF:
                put(0)
            elif low >= HALF:
                put(1)
                low, high = low - HALF, high - HALF
            elif low >= QUARTER and high < 3 * QUARTER:
                waiting += 1  # the interval lies around the middle: the next bit decides both
                low, high = low - QUARTER, high - QUARTER
            else:
                break
            low, high = 2 * low, 2 * high + 1
    if len(symbols):
        waiting += 1
        put(int(low >= QUARTER))
    return _packed(bits)


def decode(data: bytes, counts: Sequence[int], length: int) -> list[int]:
    """The symbols that `encode` coded.

    Args:
        data: what it gave; what follows it is not looked at.
        counts: as they were there.
        length: how many symbols there are.
    """
    edges = list(itertools.accumulate(counts, initial=0))
    bits = _unpacked(data)
    value = 0
    for _ in range(BITS):
        value = 2 * value + next(bits)
    low, high, found = 0, FULL - 1, []
    for _ in range(length):
        span = high - low + 1
        place = ((value - low + 1) * edges[-1] - 1) // span
        symbol = next(s for s in range(len(counts)) if edges[s] <= place < edges[s + 1])
        found.append(symbol)
        high = low + span * edges[symbol + 1] // edges[-1] - 1
        low = low + span * edges[symbol] // edges[-1]
        while high < HALF or low >= HALF or (low >= QUARTER and high < 3 * QUARTER):
            take = HALF if low >= HALF else QUARTER if high >= HALF else 0
            low, high, value = 2 * (low - take), 2 * (high - take) + 1, 2 * (value - take) + next(bits)
    return found


def _packed(bits: Sequence[int]) -> bytes:
    padded = [*bits, *[0] * (-len(bits) % 8)]
    return bytes(sum(bit << (7 - k) for k, bit in enumerate(padded[i : i + 8])) for i in range(0, len(padded), 8))


def _unpacked(data: bytes) -> Iterator[int]:
    """The bits, and zeros without end."""
    for byte in data:
        yield from ((byte >> (7 - k)) & 1 for k in range(8))
    yield from itertools.repeat(0)
