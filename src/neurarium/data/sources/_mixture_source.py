"""Several sources in one stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from neurarium.data._errors import DataError
from neurarium.data.sources._sequences import Sequences, SequenceSource, check_size


@dataclass(frozen=True)
class MixtureSource:
    """Each sequence comes from one of several sources; they share one alphabet, that of the largest.

    Args:
        sources: what draws.
        weights: probability of each, up to a factor; equal by default.

    Raises:
        DataError: no source, or weights that are negative, all 0 or of another number.
    """

    sources: Sequence[SequenceSource]
    weights: Sequence[float] = ()

    def __post_init__(self) -> None:
        weights = self.weights or [1.0] * len(self.sources)
        if not self.sources or len(weights) != len(self.sources) or min(weights) < 0 or sum(weights) == 0:
            raise DataError("a mixture needs a source or more, and a weight for each that is not negative")

    @property
    def symbols(self) -> int:
        """Of the largest alphabet."""
        return max(source.symbols for source in self.sources)

    def sample(self, count: int, length: int, generator: torch.Generator) -> Sequences:
        """Draw sequences in random order; ``truth`` is that of each one's own source, where all know theirs.

        Args:
            count: how many.
            length: symbols in each.
            generator: source of all draws, on the CPU.

        Raises:
            DataError: a number below 1.
        """
        check_size(count, length)
        weights = torch.tensor(self.weights or [1.0] * len(self.sources), dtype=torch.float64)
        chosen = torch.multinomial(weights, count, replacement=True, generator=generator)
        tokens = torch.zeros(count, length, dtype=torch.int64)
        mask = torch.zeros(count, length, dtype=torch.bool)
        truth: torch.Tensor | None = torch.zeros(count, length, dtype=torch.float64)
        for number, source in enumerate(self.sources):
            rows = (chosen == number).nonzero().flatten()
            if len(rows):
                part = source.sample(len(rows), length, generator)
                tokens[rows], mask[rows] = part.tokens, part.mask
                if truth is not None and part.truth is not None:
                    truth[rows] = part.truth
                else:
                    truth = None
        return Sequences(tokens, mask, truth)
