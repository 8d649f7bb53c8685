"""Sequence tasks that are made up: copying and parity, of strings of all lengths up to one."""

from __future__ import annotations

import torch
from torch import Tensor

from neurarium.data._arrays import Arrays
from neurarium.data._errors import DataError

IGNORED = -100
"""Target where nothing is asked; what `cross_entropy` ignores by default."""


def copy_paste(count: int, longest: int = 40, shortest: int = 20, symbols: int = 10, seed: int = 0) -> Arrays:
    """Strings to be said again once they have ended (Subramaniam et al., 2024).

    A sequence is the string, an end mark, and blanks in which the string is to be said; what is left is blank too.

    Args:
        count: sequences.
        longest: symbols in the longest string.
        shortest: symbols in the shortest one.
        symbols: different ones, numbered from 0; ``symbols`` is the end mark, ``symbols + 1`` the blank.
        seed: of all draws.

    Returns:
        x: tokens [count, 2 * longest + 1]; y: targets of that shape, `IGNORED` but in the string's second place.

    Raises:
        DataError: a number out of range.
    """
    length, text = strings(count, longest, shortest, symbols, seed)
    where = torch.arange(2 * longest + 1)
    again = where - length[:, None] - 1  # which symbol of the string is due
    x = torch.full((count, len(where)), symbols + 1)
    x[:, :longest] = text.masked_fill(where[:longest] >= length[:, None], symbols + 1)
    x.scatter_(1, length[:, None], symbols)
    due = (again >= 0) & (again < length[:, None])
    return Arrays(x, torch.where(due, text.gather(1, again.clamp(0, longest - 1)), IGNORED))


def parity(count: int, longest: int = 50, shortest: int = 1, seed: int = 0) -> Arrays:
    """Whether a string of bits has an odd number of ones.

    Args:
        count: sequences.
        longest: bits in the longest string.
        shortest: bits in the shortest one.
        seed: of all draws.

    Returns:
        x: tokens [count, longest], blanks (2) before the bits, so that the last token is a bit; y: the parity [count].

    Raises:
        DataError: a number out of range.
    """
    length, bits = strings(count, longest, shortest, 2, seed)
    x = bits.masked_fill(torch.arange(longest) < longest - length[:, None], 2)
    return Arrays(x, (x == 1).sum(1) % 2)


def strings(count: int, longest: int, shortest: int, symbols: int, seed: int) -> tuple[Tensor, Tensor]:
    """Lengths [count], uniform, and symbols [count, longest], uniform."""
    if count < 1 or not 1 <= shortest <= longest or symbols < 2:
        given = f"count {count}, shortest {shortest}, longest {longest}, symbols {symbols}"
        raise DataError(f"need count >= 1, 1 <= shortest <= longest and symbols >= 2, not {given}")
    generator = torch.Generator().manual_seed(seed)
    length = torch.randint(shortest, longest + 1, (count,), generator=generator)
    return length, torch.randint(symbols, (count, longest), generator=generator)
