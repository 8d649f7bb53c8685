"""Learning without forgetting: the network before a task teaches the network after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.continual._strategy import Strategy, Task
from neurarium.training import call, copy_module


class LearningWithoutForgetting(Strategy):
    """Keeps what the network said about old classes, on the inputs of the new task (Li and Hoiem, 2016).

    The penalty is strength * temperature^2 * KL(old || new) between the softened outputs, over the classes of earlier
    tasks. It is taken on the batch that the model was last run on in training mode, once: 0 when asked again.

    Args:
        model: any module with outputs [batch, classes].
        strength: of the penalty.
        temperature: that outputs are divided by.
        infer_task: see `Strategy`.

    Raises:
        ValueError: an argument out of range.
    """

    seen: Tensor
    old: Tensor

    def __init__(
        self,
        model: nn.Module,
        *,
        strength: float = 1.0,
        temperature: float = 2.0,
        infer_task: Callable[[Any], Task] | None = None,
    ) -> None:
        super().__init__(model, infer_task=infer_task)
        if not 0 <= strength < float("inf") or not temperature > 0:
            raise ValueError(f"strength must be at least 0 and temperature above 0, not {strength} and {temperature}")
        self.strength, self.temperature = strength, temperature
        self.teacher: nn.Module | None = None
        self.register_buffer("seen", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("old", torch.zeros(0, dtype=torch.int64))
        self._batch: Any = None
        self._hook = model.register_forward_pre_hook(self._keep, with_kwargs=True)

    def observe(self, x: Any, y: Tensor) -> None:
        """Note the classes of a batch."""
        self.seen = torch.cat([self.seen, y.flatten().to(self.seen)]).unique()

    def end_task(self, loader: Any = None) -> None:
        """The network as it is becomes the teacher."""
        self.old, self._batch = self.seen.clone(), None
        self.teacher = self._copy()

    def penalty(self) -> Tensor:
        """How far the outputs for old classes have moved, on the latest training batch."""
        x, self._batch = self._batch, None
        if self.teacher is None or x is None or not len(self.old) or self.strength == 0:
            return super().penalty()
        with torch.no_grad():
            before = call(self.teacher, x)[:, self.old] / self.temperature
        now = call(self.model, x)[:, self.old] / self.temperature
        self._batch = None
        loss = nn.functional.kl_div(now.log_softmax(1), before.log_softmax(1), reduction="batchmean", log_target=True)
        return self.strength * self.temperature**2 * loss

    def _keep(self, module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        if module.training and torch.is_grad_enabled():
            self._batch = arguments[0] if arguments else named

    def _copy(self) -> nn.Module:
        """A frozen copy of the model, without the hook."""
        self._hook.remove()
        teacher = copy_module(self.model).eval().requires_grad_(False)
        self._hook = self.model.register_forward_pre_hook(self._keep, with_kwargs=True)
        return teacher

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("seen", "old"):
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name], device=self.seen.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def load_state_dict(self, state_dict: Any, *options: Any, **more: Any) -> Any:
        """As in torch; makes room for a teacher where there is one."""
        if self.teacher is None and any(name.startswith("teacher.") for name in state_dict):
            self.teacher = self._copy()
        return super().load_state_dict(state_dict, *options, **more)
