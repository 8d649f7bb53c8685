"""All words up to a length, with the outputs of an automaton."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import one_hot

from neurarium.data._arrays import Arrays
from neurarium.data._errors import DataError
from neurarium.data.languages._automaton import Automaton, counting_automaton


def all_words(symbols: int, length: int) -> Int[Tensor, "count length"]:
    """All words of a length, in the order of a dictionary.

    Args:
        symbols: size of the alphabet.
        length: 0 or more.

    Raises:
        DataError: a number out of range.
    """
    if symbols < 1 or length < 0:
        raise DataError(f"symbols must be at least 1 and length at least 0, not {symbols} and {length}")
    count = torch.arange(symbols**length)
    return count[:, None] // symbols ** torch.arange(length - 1, -1, -1) % symbols


def automaton_task(automaton: Automaton, longest: int) -> list[Arrays]:
    """For each length from 1 to ``longest``: all words one-hot [count, length, symbols], and the automaton's outputs.

    Args:
        automaton: a complete one.
        longest: length of the longest words.

    Raises:
        DataError: ``longest`` is below 1, the automaton incomplete, or an output unknown.
    """
    if longest < 1:
        raise DataError(f"longest must be at least 1, not {longest}")
    if None in automaton.outputs:
        raise DataError("the automaton has states without an output")
    task = []
    for length in range(1, longest + 1):
        words = all_words(automaton.symbols, length)
        task.append(Arrays(one_hot(words, automaton.symbols).float(), automaton.run_all(words)))
    return task


def streaming_parity(longest: int) -> list[Arrays]:
    """All words of bits with their parities, by length (van Rossem and Saxe, 2025)."""
    return automaton_task(counting_automaton(2), longest)
