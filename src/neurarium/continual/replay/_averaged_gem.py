"""Averaged gradient episodic memory: steps that would raise the loss on old examples are bent until they do not."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from neurarium.continual._strategy import Strategy, Task
from neurarium.continual.replay._replay import Replay
from neurarium.training import Handle, on_step


class AveragedGEM(Replay):
    """g <- g - (g.r / r.r) r where g.r < 0, with r the gradient on a batch of the memory (Chaudhry et al., 2019).

    The memory is that of `Replay`. The gradient is bent before each step of an optimizer, whatever rule filled it:
    ``attach(optimizer)`` first. There is no penalty.

    Args:
        model: any module.
        loss: ``loss(output, y) -> scalar``.
        capacity, batch_size, infer_task, generator: see `Replay`; ``strength`` has no effect on a projection.
    """

    def __init__(self, model: Any, *args: Any, **options: Any) -> None:
        if "strength" in options:
            raise TypeError("AveragedGEM has no strength: a projection is the same for every length of r")
        super().__init__(model, *args, **options)
        self._attached = False

    def begin_task(self, task: Task) -> None:
        """Switch the model to the task; warns where nobody has attached an optimizer by the second one."""
        super().begin_task(task)
        if int(self.old) and not self._attached:
            warnings.warn("AveragedGEM changes steps: call attach(optimizer), or it does nothing", stacklevel=2)

    def attach(self, optimizer: torch.optim.Optimizer) -> Handle:
        """Bend the gradient before every step."""
        self._attached = True
        return on_step(optimizer, self._project)

    def penalty(self) -> Tensor:
        """0."""
        return Strategy.penalty(self)

    def _project(self, *_: Any) -> None:
        if int(self.old) == 0:
            return
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        with torch.enable_grad():
            loss = self.replayed_loss()
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        reference = [torch.zeros_like(p) if r is None else r for p, r in zip(parameters, found)]
        with torch.no_grad():
            gradients = [p.grad for p in parameters if p.grad is not None]
            along = sum(float((g * r).sum()) for g, r in zip(gradients, reference))
            if along < 0:
                length = sum(float(r.square().sum()) for r in reference)
                torch._foreach_add_(gradients, reference, alpha=-along / length)
