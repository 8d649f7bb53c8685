"""A formal language's questions and answers as one sequence."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from neurarium.data._errors import DataError
from neurarium.data.languages._formal_task import FormalTask
from neurarium.data.sources._sequences import Sequences, check_size


@dataclass(frozen=True)
class FormalSource:
    """Words of a task, each followed by its answer, one after another; only answers count.

    A symbol of an answer is its number after those of the words.

    Args:
        task: what is asked.
        word: symbols in a word.

    Raises:
        DataError: there are no words of that length.
    """

    task: FormalTask
    word: int = 4

    def __post_init__(self) -> None:
        self.task.length(self.word)

    @property
    def symbols(self) -> int:
        """Those of words and those of answers."""
        return len(self.task.symbols) + self.task.answers

    def sample(self, count: int, length: int, generator: torch.Generator) -> Sequences:
        """Draw sequences of whole questions; what is left of the length is padding.

        Args:
            count: how many.
            length: symbols in each.
            generator: source of all draws, on the CPU.

        Raises:
            DataError: a number below 1, or no question fits in the length.
        """
        check_size(count, length)
        word = self.task.length(self.word)
        block = word + self.task.answer_length(word)
        blocks = length // block
        if not blocks:
            raise DataError(f"length must hold a question of {block} symbols, not {length}")
        words = self.task.words(count * blocks, word, generator)
        answers, known = self.task.solve(words)
        tokens = torch.zeros(count, length, dtype=torch.int64)
        mask = torch.zeros(count, length, dtype=torch.bool)
        tokens[:, : blocks * block] = torch.cat([words, answers + len(self.task.symbols)], 1).reshape(count, -1)
        mask[:, : blocks * block] = torch.cat([torch.zeros_like(words, dtype=torch.bool), known], 1).reshape(count, -1)
        return Sequences(tokens, mask)
