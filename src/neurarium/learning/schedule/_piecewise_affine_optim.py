"""Optimizers whose update has no multiplication: all products and quotients are piecewise affine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.layers import pam


class _Optimizer(torch.optim.Optimizer):
    """Updates all parameters of a group that share a type in one long vector: the operations are many and small."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step on every parameter that has a gradient.

        Args:
            closure: evaluates the loss anew and returns it.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike: dict[Any, list[nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    if p.grad.is_sparse:
                        raise ValueError(f"{type(self).__name__} has no sparse gradients; use a dense embedding")
                    step = self.state[p].get("step", 0)
                    alike[p.dtype, p.device, step].append(p)
            for parameters in alike.values():
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        """Step on parameters of one type."""
        raise TypeError("use PAMAdamW or PAMSGD")

    def _gather(self, parameters: list[nn.Parameter], name: str) -> Tensor:
        """A state of all parameters as one vector; zeros at first."""
        for p in parameters:
            if name not in self.state[p]:
                self.state[p][name] = torch.zeros_like(p)
        return _flat([self.state[p][name] for p in parameters])

    def _scatter(self, parameters: list[nn.Parameter], name: str, values: Tensor) -> None:
        _spread(values, [self.state[p][name] for p in parameters])


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([t.reshape(-1) for t in tensors])


def _spread(values: Tensor, tensors: list[Tensor]) -> None:
    for part, tensor in zip(values.split([t.numel() for t in tensors]), tensors):
        tensor.copy_(part.view_as(tensor))


class PAMAdamW(_Optimizer):
    """AdamW of piecewise affine operations.

    ``m <- mul(beta1, m) + mul(1 - beta1, g)``, ``v <- mul(beta2, v) + mul(1 - beta2, mul(g, g))``, both divided by
    their bias corrections, ``p <- p - mul(lr wd, p) - mul(lr, div(m, sqrt(v) + eps))``. Constants such as the bias
    corrections are numbers computed once per step.

    Args:
        params: parameters, or groups of them.
        lr: learning rate.
        betas: decay of the two moments.
        eps: added to the root. At least 1e-8: squares of gradients below about 3e-19 are flushed to 0.
        weight_decay: decoupled, scaled by ``lr``.

    Raises:
        ValueError: an argument out of its range.
    """

    decoupled = True

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:  # fmt: skip
        if lr < 0 or weight_decay < 0:
            raise ValueError(f"lr and weight_decay must not be negative, not {lr} and {weight_decay}")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must be in [0, 1), not {betas}")
        if eps < 1e-8:
            raise ValueError(f"eps must be at least 1e-8, not {eps}: smaller squares are flushed to 0")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def _update(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        lr, (beta1, beta2) = group["lr"], group["betas"]
        step = self.state[parameters[0]].get("step", 0) + 1
        p = _flat(parameters)
        g = _flat([q.grad for q in parameters if q.grad is not None])
        if group["weight_decay"] and not self.decoupled:
            g = g + pam.mul(p, group["weight_decay"])
        m = pam.mul(self._gather(parameters, "exp_avg"), beta1) + pam.mul(g, 1 - beta1)
        v = pam.mul(self._gather(parameters, "exp_avg_sq"), beta2) + pam.mul(pam.mul(g, g), 1 - beta2)
        root = pam.sqrt(pam.div(v, 1 - beta2**step)) + group["eps"]
        change = pam.mul(pam.div(pam.div(m, 1 - beta1**step), root), lr)
        if group["weight_decay"] and self.decoupled:
            change = change + pam.mul(p, lr * group["weight_decay"])
        _spread(p - change, parameters)  # type: ignore[arg-type]
        self._scatter(parameters, "exp_avg", m)
        self._scatter(parameters, "exp_avg_sq", v)
        for q in parameters:
            self.state[q]["step"] = step


class PAMAdam(PAMAdamW):
    """Adam of piecewise affine operations: as `PAMAdamW`, with weight decay as ``g + mul(weight_decay, p)``.

    Args:
        params: parameters, or groups of them.
        lr: learning rate.
        betas: decay of the two moments.
        eps: added to the root, at least 1e-8.
        weight_decay: added to the gradient.

    Raises:
        ValueError: an argument out of its range.
    """

    decoupled = False

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(params, lr, betas, eps, weight_decay)


class PAMSGD(_Optimizer):
    """SGD of piecewise affine operations: ``b <- mul(momentum, b) + g``, ``p <- p - mul(lr, b)``.

    Args:
        params: parameters, or groups of them.
        lr: learning rate.
        momentum: decay of the average of gradients; 0 for none.
        weight_decay: added to the gradient as ``mul(weight_decay, p)``.
        nesterov: step along ``g + mul(momentum, b)``.

    Raises:
        ValueError: a negative argument, or ``nesterov`` without momentum.
    """

    def __init__(
        self, params: Any, lr: float = 1e-3, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False
    ) -> None:
        if min(lr, momentum, weight_decay) < 0:
            raise ValueError(
                f"lr, momentum and weight_decay must not be negative, not {lr}, {momentum} and {weight_decay}"
            )
        if nesterov and not momentum:
            raise ValueError("nesterov needs momentum")
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}
        )  # fmt: skip

    def _update(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        p = _flat(parameters)
        g = _flat([q.grad for q in parameters if q.grad is not None])
        if group["weight_decay"]:
            g = g + pam.mul(p, group["weight_decay"])
        if group["momentum"]:
            average = pam.mul(self._gather(parameters, "momentum_buffer"), group["momentum"]) + g
            self._scatter(parameters, "momentum_buffer", average)
            g = g + pam.mul(average, group["momentum"]) if group["nesterov"] else average
        _spread(p - pam.mul(g, group["lr"]), parameters)  # type: ignore[arg-type]
