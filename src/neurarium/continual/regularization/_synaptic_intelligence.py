"""Synaptic intelligence: a weight matters as much as its way through the task lowered the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.continual._strategy import Task
from neurarium.continual.regularization._anchored import AnchoredStrategy, Mode
from neurarium.objectives.constraint._quadratic import changed, grown


class SynapticIntelligence(AnchoredStrategy):
    """F_i = max(0, sum_steps -g_i d theta_i) / (D_i^2 + damping), D_i the weight's way in the task (Zenke et al.,
    2017).

    The sums are taken in ``observe``, after every step: call it with each batch, before the gradients are reset. The
    gradient is the one in ``.grad``; with ``implicit=True`` it is the loss's alone, otherwise the springs' is part of
    it. The paper's c is half of ``strength``, and its Omega (a sum over tasks) is ``mode="separate"`` with all
    springs at the latest weights; here each task's springs stay where that task ended.

    Args:
        model: any module.
        strength: lambda; 1 by default (the paper's c = 0.5).
        damping: xi, keeps weights that hardly moved from mattering without bound; 0.1 by default, as in the paper.
        mode, decay, grow, implicit, infer_task: see `AnchoredStrategy`.

    Raises:
        ValueError: ``damping`` is not positive, or an argument of `AnchoredStrategy` out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        strength: float = 1.0,
        damping: float = 0.1,
        mode: Mode = "separate",
        decay: float = 1.0,
        grow: bool = False,
        implicit: bool = False,
        infer_task: Callable[[Any], Task] | None = None,
    ) -> None:
        super().__init__(
            model, strength=strength, mode=mode, decay=decay, grow=grow, implicit=implicit, infer_task=infer_task
        )  # fmt: skip
        if damping <= 0:
            raise ValueError(f"damping must be positive, not {damping}")
        self.damping = damping
        self.path: dict[str, Tensor] = {}
        self.start: dict[str, Tensor] = {}
        self.last: dict[str, Tensor] = {}
        self.steps = 0

    def begin_task(self, task: Task) -> None:
        """Begin the sums anew."""
        super().begin_task(task)
        self.start = {name: p.detach().clone() for name, p in self.anchored().items()}
        self.last = {name: p.clone() for name, p in self.start.items()}
        self.path = {name: torch.zeros_like(p) for name, p in self.start.items()}
        self.steps = 0

    @torch.no_grad()
    def observe(self, x: Any, y: Tensor) -> None:
        """Add what the last step gained: minus its gradient times its change of the weights."""
        self.steps += 1
        for name, p in self.anchored().items():
            if name in self.path and self.path[name].shape != p.shape:
                self._follow(name, p)
            if p.grad is not None and name in self.path:
                self.path[name] -= p.grad * (p - self.last[name])
                self.last[name].copy_(p)

    @torch.no_grad()
    def importance(self, loader: Iterable[Any] | None) -> dict[str, Tensor]:
        """The gains of each weight over its squared way; no data needed.

        Raises:
            ValueError: no step of the task was observed.
        """
        for name, p in self.anchored().items():
            if name in self.path and self.path[name].shape != p.shape:
                self._follow(name, p)
        if not self.steps:
            raise ValueError(
                "no step of this task was seen: call begin_task before it and observe(x, y) after each step"
            )
        return {
            name: self.path[name].clamp(min=0) / ((p - self.start[name]).square() + self.damping)
            for name, p in self.anchored().items()
        }

    def _follow(self, name: str, p: Tensor) -> None:
        """A parameter that has grown within the task: what is new begins here."""
        if (
            not self.grow
            or p.dim() != self.path[name].dim()
            or any(a < b for a, b in zip(p.shape, self.path[name].shape))
        ):
            raise ValueError(changed(name, self.path[name], p))
        self.path[name] = grown(self.path[name], torch.zeros_like(p))
        self.start[name], self.last[name] = (grown(old[name], p.detach()) for old in (self.start, self.last))

    def get_extra_state(self) -> dict[str, Any]:
        """The sums of an unfinished task."""
        return {"path": self.path, "start": self.start, "last": self.last, "steps": self.steps}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on with an unfinished task."""
        self.path, self.start, self.last = (
            {name: tensor.clone() for name, tensor in state[part].items()} for part in ("path", "start", "last")
        )
        self.steps = state["steps"]
