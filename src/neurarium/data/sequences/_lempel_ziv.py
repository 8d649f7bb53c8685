"""How well a sequence can be compressed, as the number of phrases of Lempel and Ziv (1978)."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np


def lempel_ziv(sequence: Iterable[Any]) -> int:
    """The number of phrases into which the incremental parsing of Lempel and Ziv (1978) cuts a sequence.

    A phrase is the shortest piece that has not been seen as a phrase before; a last piece that ends before it is new
    does not count. A random sequence has the most phrases; one of n equal symbols has about sqrt(2 n).

    Args:
        sequence: symbols of any kind that can be told apart: text, bytes, numbers, a tensor or array (read row by row).
    """
    known: dict[Any, int] = {}  # (phrase, next symbol) -> the longer phrase; phrases are numbered, 0 is the empty one
    phrase = 0
    for symbol in _symbols(sequence):
        longer = known.get((phrase, symbol))
        if longer is None:
            known[phrase, symbol] = len(known) + 1
            phrase = 0
        else:
            phrase = longer
    return len(known)


def relative_lempel_ziv(bits: Iterable[Any]) -> float:
    """Phrases of a sequence of two symbols, over those of fair coin flips of that length: about 1 if incompressible.

    Args:
        bits: as in `lempel_ziv`, of two different symbols at most.

    Raises:
        ValueError: the sequence is empty or has more than two symbols.
    """
    sequence = _symbols(bits)
    if len(sequence) == 0 or len(set(sequence)) > 2:
        raise ValueError(f"bits must be a sequence of two symbols, not {len(set(sequence))} in {len(sequence)} places")
    return lempel_ziv(sequence) / coin_phrases(len(sequence))


@functools.lru_cache(maxsize=256)
def coin_phrases(length: int, strings: int = 16) -> float:
    """Mean number of phrases of strings of fair coin flips."""
    coins = np.random.default_rng(0).integers(0, 2, (strings, length))
    return float(np.mean([lempel_ziv(row) for row in coins]))


def _symbols(sequence: Iterable[Any]) -> Any:
    """A list, text or bytes of symbols that can be looked up."""
    if isinstance(sequence, (str, bytes)):
        return sequence
    if hasattr(sequence, "detach"):
        sequence = sequence.detach().cpu()
    if hasattr(sequence, "reshape") and hasattr(sequence, "tolist"):
        return sequence.reshape(-1).tolist()
    return list(sequence)
