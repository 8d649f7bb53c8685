"""Sources without structure or with the plainest: independent symbols, and pieces that repeat."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neurarium.data._errors import DataError
from neurarium.data.sources._sequences import Sequences, check_size


@dataclass(frozen=True)
class IndependentSource:
    """Independent symbols, whose frequencies are drawn for each sequence from Dirichlet(1/2, ..., 1/2).

    The Krichevsky-Trofimov estimator is Bayes-optimal on it.

    Args:
        symbols: size of the alphabet.

    Raises:
        DataError: fewer than 2 symbols.
    """

    symbols: int

    def __post_init__(self) -> None:
        if self.symbols < 2:
            raise DataError(f"symbols must be at least 2, not {self.symbols}")

    def sample(self, count: int, length: int, generator: torch.Generator) -> Sequences:
        """Draw sequences; ``truth`` is known.

        Args:
            count: how many.
            length: symbols in each.
            generator: source of all draws, on the CPU.

        Raises:
            DataError: a number below 1.
        """
        check_size(count, length)
        weights = torch.randn(count, self.symbols, generator=generator, dtype=torch.float64).square()  # Gamma(1/2)
        tokens = torch.multinomial(weights, length, replacement=True, generator=generator)
        truth = (weights / weights.sum(1, keepdim=True)).log().gather(1, tokens)
        return Sequences(tokens, torch.ones_like(tokens, dtype=torch.bool), truth)


@dataclass(frozen=True)
class PeriodicSource:
    """A random piece of random length, repeated.

    Args:
        symbols: size of the alphabet.
        shortest: length of the shortest pieces.
        longest: and of the longest.

    Raises:
        DataError: fewer than 2 symbols, or lengths out of order.
    """

    symbols: int
    shortest: int = 2
    longest: int = 8

    def __post_init__(self) -> None:
        if self.symbols < 2 or not 1 <= self.shortest <= self.longest:
            raise DataError("symbols must be at least 2, and 1 <= shortest <= longest")

    def sample(self, count: int, length: int, generator: torch.Generator) -> Sequences:
        """Draw sequences.

        Args:
            count: how many.
            length: symbols in each.
            generator: source of all draws, on the CPU.

        Raises:
            DataError: a number below 1.
        """
        check_size(count, length)
        period = torch.randint(self.shortest, self.longest + 1, (count, 1), generator=generator)
        pieces = torch.randint(self.symbols, (count, self.longest), generator=generator)
        tokens: Tensor = pieces.gather(1, torch.arange(length) % period)
        return Sequences(tokens, torch.ones_like(tokens, dtype=torch.bool))
