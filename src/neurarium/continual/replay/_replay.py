"""Experience replay: the reference that keeps some old examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.continual._strategy import Strategy, Task
from neurarium.continual.replay._examples import Examples
from neurarium.data._uniform_sample import sample_slots
from neurarium.training import call, unpack


class Replay(Strategy):
    """Trains on a few old examples beside every new batch, out of a small memory that is a uniform sample of all.

    Every example that was ever observed is in the memory with the same probability (Vitter, 1985). The loss on a
    batch drawn from it is this strategy's penalty, so it works with any learning rule. Examples of the current task
    join the draw only when the task has ended.

    Args:
        model: any module.
        loss: ``loss(output, y) -> scalar``.
        capacity: examples kept; 500 by default.
        batch_size: old examples beside each new batch; 64 by default.
        strength: factor of their loss.
        infer_task: see `Strategy`.
        generator: of the memory's draws, on the CPU; torch's global state by default.

    Raises:
        ValueError: ``capacity`` or ``batch_size`` is below 1.
    """

    seen: Tensor
    old: Tensor

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Any, Tensor], Tensor] = cross_entropy,
        *,
        capacity: int = 500,
        batch_size: int = 64,
        strength: float = 1.0,
        infer_task: Callable[[Any], Task] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(model, infer_task=infer_task)
        if capacity < 1 or batch_size < 1:
            raise ValueError(f"capacity and batch_size must be at least 1, not {capacity} and {batch_size}")
        self.loss, self.capacity, self.batch_size, self.strength = loss, capacity, batch_size, strength
        self.generator = generator
        self.examples = Examples()
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("old", torch.zeros((), dtype=torch.int64))

    @property
    def x(self) -> Tensor:
        """Inputs that are kept, [examples, ...], where they are tensors; padded at the end to the longest."""
        return self.examples.get_buffer("x")

    @property
    def y(self) -> Tensor:
        """Their targets."""
        return self.examples.get_buffer("y")

    @torch.no_grad()
    def observe(self, x: Any, y: Tensor) -> None:
        """Offer a batch to the memory: a tensor or a dictionary of tensors; batches may differ in length.

        Raises:
            ValueError: inputs and targets of different numbers, or of other dimensions or names than before.
        """
        self.examples.put(x, y, sample_slots(len(y), int(self.seen), self.capacity, self.generator))
        self.seen += len(y)

    def end_task(self, loader: Any = None) -> None:
        """From now on what is in the memory counts as old."""
        self.old = self.seen.clone()

    def penalty(self) -> Tensor:
        """The loss on a batch of the memory; 0 during the first task."""
        if int(self.old) == 0:
            return super().penalty()
        return self.strength * self.replayed_loss()

    def replayed_loss(self) -> Tensor:
        """The mean loss on a batch drawn from the memory; examples of one shape go through the model together."""
        count = min(self.batch_size, len(self.examples))
        rows = torch.randint(len(self.examples), (count,), generator=self.generator)
        losses = [
            self.loss(call(self.model, x), y) * (len(y) / count) for x, y in map(unpack, self.examples.take(rows))
        ]
        return torch.stack(losses).sum()
