"""Steps of one size in the direction of the gradient's sign, only where there is a gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def sign_descent_(weight: Tensor, gradient: Tensor, lr: float, weight_decay: float = 0.0) -> Tensor:
    """w <- w - lr (sign(g) + weight_decay w) where g is not 0; in place. Other entries stay as they are."""
    step = gradient.sign().add_(weight, alpha=weight_decay)
    return weight.sub_(step.mul_(gradient != 0), alpha=lr)


class SignDescent(torch.optim.Optimizer):
    """Sign descent with decay that leaves entries with a gradient of exactly 0 alone.

    What is learned for one class so cannot disturb the weights of another, which get no gradient from it.

    Args:
        params: parameters or groups.
        lr: step.
        weight_decay: pulls the entries that are stepped towards 0; a negative one pushes them away, as the released
            code of differentiable ensembles does by the sign of its decay.

    Raises:
        ValueError: ``lr`` is negative.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-4, weight_decay: float = 0.0) -> None:
        if lr < 0:
            raise ValueError(f"lr must not be negative, not {lr}")
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; ``closure`` as in torch."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    sign_descent_(p, p.grad, group["lr"], group["weight_decay"])
        return loss
