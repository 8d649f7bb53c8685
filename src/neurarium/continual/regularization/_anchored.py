"""What every quadratic anchor shares: springs on the weights, added task by task, explicit or as a proximal step."""

from __future__ import annotations

import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neurarium.continual._strategy import Strategy, Task
from neurarium.objectives import QuadraticPenalty
from neurarium.training import Handle, on_step, unwrap_optimizer

Mode = Literal["separate", "online"]


class AnchoredStrategy(Strategy, ABC):
    """L(theta) + strength / 2 * sum_tasks sum_i F_i (theta_i - theta*_i)^2, with F from a subclass's ``importance``.

    A subclass says how much each weight matters; everything else is here. Buffers, frozen parameters and parameters of
    modules with ``task_specific = True`` are not anchored. A parameter that appears after a task (a new head) is free.

    Args:
        model: any module.
        strength: lambda, at least 0. 0 leaves training as it is, bit for bit.
        mode: ``"separate"``: a spring per task, kept as their exact sum in the memory of one; ``"online"``: one spring
            at the latest weights with F <- decay * F + F_task (Schwarz et al., 2018).
        decay: of the old importance in online mode, between 0 and 1.
        grow: let a parameter become larger after it was anchored, as the last layer does where classes are added: its
            old rows stay anchored and its new ones are free. Otherwise a changed shape is refused as a mistake.
        implicit: take the penalty as a proximal step after each optimizer step instead of through the gradient, which
            is stable for any strength; needs ``attach(optimizer)``.
        infer_task: see `Strategy`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        strength: float,
        mode: Mode = "separate",
        decay: float = 1.0,
        grow: bool = False,
        implicit: bool = False,
        infer_task: Callable[[Any], Task] | None = None,
    ) -> None:
        super().__init__(model, infer_task=infer_task)
        if not 0 <= strength < float("inf"):
            raise ValueError(f"strength must be finite and not negative, not {strength}")
        if mode not in ("separate", "online"):
            raise ValueError(f"mode must be separate or online, not {mode!r}")
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must be between 0 and 1, not {decay}")
        if mode == "separate" and decay != 1:
            raise ValueError("decay is for mode='online'; separate springs keep their strength")
        self.strength, self.mode, self.decay = strength, mode, decay
        self.grow, self.implicit = grow, implicit
        self.springs = QuadraticPenalty()
        # Weak: a stream makes a new optimizer for every task, and the old ones must not pile up with their states.
        self._optimizers: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()
        self._warned = False

    @abstractmethod
    def importance(self, loader: Iterable[Any] | None) -> dict[str, Tensor]:
        """F of the task that ends, for every name of ``anchored()``."""

    def anchored(self) -> dict[str, nn.Parameter]:
        """The shared parameters that train, by name."""
        own = {
            id(p) for m in self.model.modules() if getattr(m, "task_specific", False) is True for p in m.parameters()
        }
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad and id(p) not in own}

    def begin_task(self, task: Task) -> None:
        """Switch the model to the task; warns where the penalty's gradient is too steep for an attached optimizer."""
        super().begin_task(task)
        self._warn_if_unstable()

    def penalty(self) -> Tensor:
        """strength / 2 * sum F (theta - theta*)^2; 0 before the first ``end_task``.

        In implicit mode it is the value alone, without a gradient: the proximal step does the work.

        Raises:
            ValueError: an anchored parameter is gone or has another shape (with ``grow``, a smaller one); or implicit
                mode without ``attach``.
        """
        if self.strength == 0 or not self.springs.stiffness:
            return super().penalty()
        if self.implicit:
            if not self._optimizers:
                raise ValueError("implicit=True takes its steps after the optimizer's: call attach(optimizer) first")
            with torch.no_grad():
                return self.springs(self._parameters_now(), self.strength)
        return self.springs(self._parameters_now(), self.strength)

    def end_task(self, loader: Iterable[Any] | None = None) -> None:
        """Anchor the weights where they are, each as strongly as it matters to the task."""
        parameters = self.anchored()
        if not parameters:
            raise ValueError("model has no shared parameter that requires a gradient, so there is nothing to anchor")
        stiffness = self.importance(loader)
        centre = {name: p.detach() for name, p in parameters.items()}
        self.springs.matched(self._parameters_now())  # refuse before anything moves
        if self.mode == "online" and self.springs.stiffness:
            self.springs.scale(self.decay)
            self.springs.recentre({name: p.detach() for name, p in self.model.named_parameters()})
        self.springs.add(stiffness, centre)
        self._warn_if_unstable()

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {**state, "_optimizers": None}  # of this process; a weak set cannot be saved

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "_optimizers": weakref.WeakSet()})

    def attach(self, optimizer: torch.optim.Optimizer) -> Handle:
        """Let the strategy know the optimizer.

        In implicit mode every step is followed by the proximal step theta <- (theta + r F m) / (1 + r F) with
        r = lr * strength; the returned handle's ``remove()`` ends that. Otherwise the learning rate is only used to
        warn, once, where the penalty's gradient alone diverges under SGD: lr * strength * max F > 2 (1 + momentum).

        Raises:
            ValueError: the optimizer holds none of the model's parameters.
        """
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if not any(id(p) in held for p in self.model.parameters()):
            raise ValueError("optimizer holds none of the model's parameters, so there is nothing to attach to")
        self._optimizers.add(unwrap_optimizer(optimizer))
        self._warn_if_unstable()
        return on_step(optimizer, after=self._proximal_step if self.implicit else None)

    def _proximal_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.strength == 0:
            return
        rates = {id(p): float(group["lr"]) for group in optimizer.param_groups for p in group["params"]}
        parameters = self._parameters_now()
        for rate in set(rates.values()):
            chosen = {name: p for name, p in parameters.items() if rates.get(id(p)) == rate}
            self.springs.proximal(chosen, rate * self.strength)

    def _parameters_now(self) -> dict[str, nn.Parameter]:
        parameters = dict(self.model.named_parameters())
        if self.grow:
            self.springs.grow(parameters)
        return parameters

    def _warn_if_unstable(self) -> None:
        if self.implicit or self._warned or not self.springs.stiffness:
            return
        steepest = self.strength * self.springs.largest()
        for optimizer in self._optimizers:
            if not isinstance(optimizer, torch.optim.SGD):
                continue
            for group in optimizer.param_groups:
                product, limit = float(group["lr"]) * steepest, 2 * (1 + group["momentum"])
                if product > limit:
                    self._warned = True
                    warnings.warn(
                        f"lr * strength * max F = {product:.3g} exceeds {limit:.3g}: the penalty's gradient step "
                        "overshoots and will diverge; use implicit=True, clip=..., or a lower lr or strength",
                        RuntimeWarning,
                        stacklevel=3,
                    )
                    return
