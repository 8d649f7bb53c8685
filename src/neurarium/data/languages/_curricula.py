"""Which length comes at which step of a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from neurarium.data._errors import DataError

Curriculum = Callable[[int, torch.Generator], int]
"""``curriculum(step, generator)`` gives the length of the words of a step, counted from 0."""


@dataclass(frozen=True)
class UniformLengths:
    """A length drawn uniformly; one length alone where both ends are equal.

    Args:
        longest: the greatest.
        shortest: the least.
    """

    longest: int
    shortest: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.shortest <= self.longest:
            raise DataError(f"need 1 <= shortest <= longest, not shortest {self.shortest}, longest {self.longest}")

    def __call__(self, step: int, generator: torch.Generator) -> int:
        """The length at a step."""
        return int(torch.randint(self.shortest, self.longest + 1, (), generator=generator))


@dataclass(frozen=True)
class ExponentialLengths:
    """A length drawn with probability proportional to ``ratio ** length``: short ones first of all below 1.

    Args:
        lengths: those that may come.
        ratio: above 0.
    """

    lengths: Sequence[int]
    ratio: float

    def __post_init__(self) -> None:
        if not self.lengths or min(self.lengths) < 1 or self.ratio <= 0:
            raise DataError("lengths must be one or more numbers of at least 1, and ratio above 0")

    def __call__(self, step: int, generator: torch.Generator) -> int:
        """The length at a step."""
        lengths = torch.tensor(self.lengths)
        weights = self.ratio ** (lengths - lengths.min()).double()
        return int(lengths[torch.multinomial(weights, 1, generator=generator)])


@dataclass(frozen=True)
class GrowingLengths:
    """A greatest length that grows by ``amount`` every ``every`` steps.

    Args:
        first: the greatest length at the start.
        every: steps between two increases.
        amount: by how much it grows.
        mixed: draw uniformly among all greatest lengths so far, not the present one alone.
    """

    first: int
    every: int
    amount: int = 1
    mixed: bool = True

    def __post_init__(self) -> None:
        if min(self.first, self.every, self.amount) < 1:
            raise DataError("first, every and amount must be at least 1")

    def __call__(self, step: int, generator: torch.Generator) -> int:
        """The length at a step."""
        grown = step // self.every
        if self.mixed:
            grown = int(torch.randint(grown + 1, (), generator=generator))
        return self.first + self.amount * grown
