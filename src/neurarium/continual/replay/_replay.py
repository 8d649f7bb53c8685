"""Experience replay: the reference that keeps some old examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.continual._strategy import Strategy, Task


class Replay(Strategy):
    """Trains on a few old examples beside every new batch, out of a small memory filled by reservoir sampling.

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

    x: Tensor
    y: Tensor
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
        self.register_buffer("x", torch.empty(0))
        self.register_buffer("y", torch.empty(0))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("old", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def observe(self, x: Tensor, y: Tensor) -> None:
        """Offer a batch to the memory."""
        if self.x.numel() == 0:
            self.x, self.y = x.new_empty(0, *x.shape[1:]), y.new_empty(0, *y.shape[1:])
        room = min(self.capacity - len(self.x), len(x))
        if room > 0:
            self.x, self.y = torch.cat([self.x, x[:room]]), torch.cat([self.y, y[:room]])
        older = int(self.seen) + torch.arange(1, len(x) + 1)
        places = (torch.rand(len(x), dtype=torch.float64, generator=self.generator) * older).long()
        for row in range(max(room, 0), len(x)):
            if places[row] < self.capacity:
                self.x[places[row]], self.y[places[row]] = x[row], y[row]
        self.seen += len(x)

    def end_task(self, loader: Any = None) -> None:
        """From now on what is in the memory counts as old."""
        self.old = self.seen.clone()

    def penalty(self) -> Tensor:
        """The loss on a batch of the memory; 0 during the first task."""
        if int(self.old) == 0:
            return super().penalty()
        rows = torch.randint(len(self.x), (min(self.batch_size, len(self.x)),), generator=self.generator)
        rows = rows.to(self.x.device)
        return self.strength * self.loss(self.model(self.x[rows]), self.y[rows])

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("x", "y"):  # the memory's length is not known beforehand
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name], device=getattr(self, name).device))
        super()._load_from_state_dict(state_dict, prefix, *rest)
