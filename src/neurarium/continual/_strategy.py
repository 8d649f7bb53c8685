"""The contract of the continual room, and plain training as its first member."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.training import Handle, call, evaluation

Task = Any
"""What names a task: a number, a string, whatever the model's ``set_task`` understands."""


class Strategy(nn.Module):
    """A way to learn tasks one after another, wrapped around the user's model. It does nothing unless a subclass does.

    ```
    strategy.attach(optimizer)
    for task, loader in enumerate(stream):
        strategy.begin_task(task)
        for x, y in loader:
            optimizer.zero_grad()
            (loss(strategy(x), y) + strategy.penalty()).backward()
            optimizer.step()
            strategy.observe(x, y)
        strategy.end_task(loader)
    ```

    The model is a submodule, so ``strategy.state_dict()`` is all there is to save. Modules of the model that have a
    method ``set_task(task)`` (`TaskGains`, a network with a head per task) are told of the task by ``begin_task`` and,
    for its call, by ``predict``.

    Args:
        model: any module.
        infer_task: ``infer_task(x) -> task`` names the task of a batch in ``predict``; without it the task is the one
            begun last. A module that is given here becomes part of the strategy.
    """

    def __init__(self, model: nn.Module, *, infer_task: Callable[[Any], Task] | None = None) -> None:
        super().__init__()
        self.model = model
        self.infer_task = infer_task
        self.task: Task = None

    def begin_task(self, task: Task) -> None:
        """A new task starts: its name goes to every module of the model that has ``set_task``."""
        self.task = task
        for module in self._switches():
            module.set_task(task)

    def attach(self, optimizer: torch.optim.Optimizer) -> Handle:
        """Let the strategy know the optimizer, for those that change its steps; the handle's ``remove()`` ends it."""
        return Handle()

    def observe(self, x: Any, y: Tensor) -> None:
        """A batch was trained on."""

    def penalty(self) -> Tensor:
        """What to add to the loss: a scalar, a constant 0 where there is nothing to add."""
        return torch.zeros((), device=next((p.device for p in self.model.parameters()), None))

    def end_task(self, loader: Iterable[Any] | None = None) -> None:
        """The task is over; ``loader`` gives its training data once more, for strategies that need it."""

    def forward(self, x: Any) -> Any:
        """The model's output under the current task."""
        return call(self.model, x)

    @torch.no_grad()
    def predict(self, x: Any) -> Any:
        """The model's output in evaluation mode, under the task that ``infer_task`` names (else the current one)."""
        with evaluation(self.model):
            if self.infer_task is None:
                return call(self.model, x)
            with self.as_task(self.infer_task(x)):
                return call(self.model, x)

    @contextmanager
    def as_task(self, task: Task) -> Iterator[None]:
        """Within the context the model is switched to a task.

        Raises:
            ValueError: the model has no module with ``set_task``.
        """
        switches = self._switches()
        if not switches:
            raise ValueError("the model has no module with a set_task method, so there is no task to switch")
        before = [getattr(module, "task", None) for module in switches]
        try:
            for module in switches:
                module.set_task(task)
            yield
        finally:
            for module, own in zip(switches, before):
                if own is not None or self.task is not None:
                    module.set_task(self.task if own is None else own)

    def _switches(self) -> list[Any]:
        return [m for m in self.model.modules() if inspect.ismethod(getattr(m, "set_task", None))]


class Finetune(Strategy):
    """Plain training on each task in turn: the baseline that forgets."""
