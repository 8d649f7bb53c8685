"""Sequences of whole numbers by the size of the smallest expression that gives them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from neurarium.data._errors import DataError

Sized = tuple[np.ndarray, list[str]]
"""Distinct sequences of one size, and an expression of each."""


@dataclass(frozen=True)
class ExpressionSequence:
    """A sequence and a smallest expression of it.

    Args:
        values: its terms, for i = 0, 1, 2, ...
        expression: of i, 2, +, x and // (a // 0 is a).
        operators: how many it has; no expression with fewer gives the sequence.
    """

    values: tuple[int, ...]
    expression: str
    operators: int


def expression_sequences(max_operators: int, length: int) -> list[ExpressionSequence]:
    """Every sequence that an expression of so many operators gives, once each, the simplest first.

    Terms are ``i`` (the place, from 0) and 2, operators + x and // (Goldblum et al., 2024, section 4). Since operators
    act term by term, expressions that give the same sequence can take each other's place in larger ones: only the
    distinct sequences of each size are combined, not all expressions.

    Args:
        max_operators: 7 at most.
        length: terms of each sequence.

    Raises:
        DataError: a number out of range, or terms that may pass 2^63.
    """
    if not 0 <= max_operators <= 7 or length < 1:
        raise DataError(f"max_operators must be 0 to 7 and length at least 1, not {max_operators} and {length}")
    if max(length, 4) ** (max_operators + 1) >= 2**63:
        raise DataError(f"terms of {max_operators} operators at place {length} do not fit in 64 bits")
    places = np.arange(length)
    seen: set[bytes] = set()
    sizes: list[Sized] = []
    for size in range(max_operators + 1):
        found = [(np.stack([places, np.full(length, 2)]), ["i", "2"])] if not size else _joined(sizes)
        new: dict[bytes, tuple[np.ndarray, str]] = {}
        for rows, names in found:
            for row, name in zip(rows, names, strict=True):
                if row.tobytes() not in seen:
                    new.setdefault(row.tobytes(), (row, name))
        seen |= new.keys()
        kept = np.stack([row for row, _ in new.values()]) if new else np.zeros((0, length), np.int64)
        sizes.append((kept, [name for _, name in new.values()]))
    return [
        ExpressionSequence(tuple(row.tolist()), name, size)
        for size, (rows, names) in enumerate(sizes)
        for row, name in zip(rows, names, strict=True)
    ]


def _joined(sizes: list[Sized]) -> Iterator[Sized]:
    """Sequences of one operator more: all pairs of known ones whose sizes add up."""
    for left in range(len(sizes)):
        right = len(sizes) - 1 - left
        for a, name in zip(*sizes[left], strict=True):
            b = sizes[right][0]
            whole = np.where(b == 0, a, a // np.where(b == 0, 1, b))
            for sign, rows in (("+", a + b), ("x", a * b), ("//", whole)):
                if sign == "//" or left <= right:  # sums and products read the same from both ends
                    yield rows, [f"({name} {sign} {other})" for other in sizes[right][1]]
