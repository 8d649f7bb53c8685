"""What every source of sequences gives, and a loader of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neurarium.data._errors import DataError

IGNORED = -100


@dataclass(frozen=True)
class Sequences:
    """Sequences of one length over one alphabet.

    Args:
        tokens: symbols, 0 where there is none.
        mask: which of them count; padding, and what a model is given without being asked, does not.
        truth: the log-probability, in nats, that the source itself gave to each symbol; None where it is not known.
    """

    tokens: Int[Tensor, "count length"]
    mask: Bool[Tensor, "count length"]
    truth: Float[Tensor, "count length"] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def targets(self) -> Int[Tensor, "count length"]:
        """The tokens, with -100 where they do not count, as torch's losses leave it out."""
        return self.tokens.masked_fill(~self.mask, IGNORED)


@runtime_checkable
class SequenceSource(Protocol):
    """Anything that draws sequences."""

    @property
    def symbols(self) -> int:
        """Size of the alphabet."""

    def sample(self, count: int, length: int, generator: torch.Generator) -> Sequences:
        """Draw ``count`` sequences of ``length`` symbols, each from a source of its own."""


class SourceBatches:
    """A loader of fresh sequences: gives ``(tokens, targets)``, the second with -100 where nothing is counted.

    Two loaders of equal seeds give equal batches; a further pass gives new ones.

    Args:
        source: what draws them.
        batch_size: sequences per batch.
        steps: batches per pass.
        length: symbols in each.
        seed: of all draws.
        device: where the batches are put.

    Raises:
        DataError: a number below 1.
    """

    def __init__(
        self,
        source: SequenceSource,
        batch_size: int,
        steps: int,
        length: int,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        if min(batch_size, steps, length) < 1:
            raise DataError(f"batch_size, steps and length must be at least 1, not {batch_size}, {steps} and {length}")
        self.source = source
        self.batch_size = batch_size
        self.steps = steps
        self.length = length
        self.device = device
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(self.steps):
            drawn = self.source.sample(self.batch_size, self.length, self.generator)
            yield drawn.tokens.to(self.device), drawn.targets.to(self.device)


def check_size(count: int, length: int) -> None:
    """Refuse an empty request.

    Raises:
        DataError: a number below 1.
    """
    if count < 1 or length < 1:
        raise DataError(f"count and length must be at least 1, not {count} and {length}")
