"""The length of the shortest piece whose repetition is a string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def repeat_complexity(sequence: Sequence[Any]) -> int:
    """The length of the shortest prefix that, repeated and cut, gives the sequence (Goldblum et al., 2023).

    Found from the longest border of Knuth, Morris and Pratt, in a time proportional to the length.

    Args:
        sequence: a text, or symbols that can be compared.
    """
    border = [0] * len(sequence)
    for i in range(1, len(sequence)):
        size = border[i - 1]
        while size and sequence[i] != sequence[size]:
            size = border[size - 1]
        border[i] = size + (sequence[i] == sequence[size])
    return len(sequence) - border[-1] if len(sequence) else 0
