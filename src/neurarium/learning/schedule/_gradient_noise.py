"""Gaussian noise on every gradient, its variance annealed over the steps (Neelakantan, Vilnis et al., 2015)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neurarium.training import Handle, on_step, unwrap_optimizer

_MARK = "_neurarium_gradient_noise"


class GradientNoise:
    """Adds independent noise of variance ``eta / (1 + t)^gamma`` to each coordinate of ``.grad`` (section 3, eq. 1).

    ``t`` counts optimizer steps, not backward passes, so gradient accumulation gets noise once. It acts on ``.grad``
    alone and so works with any learning rule and any optimizer, adaptive ones included (whose second moments see the
    noise: that is the method). Parameters without a gradient are left alone.

    Under data parallelism attach it on every rank, with equal seeds, and reduce the gradients before the step: the
    ranks then add the same noise. With different seeds the weights of the ranks would drift apart.

    Args:
        eta: variance at the first step; 0 changes nothing. The paper chooses from 0.01, 0.3 and 1. An optimizer's
            parameter group may have its own (``{"params": ..., "noise_eta": 0.01}``).
        gamma: how fast the variance falls; 0.55 in all of the paper's experiments, 0 for constant noise.
        max_norm: clip the gradient to this global norm; None for no clipping.
        order: clip before the noise is added (the noise is then never rescaled) or after.
        active: ``active(step) -> bool``; where False nothing is added (but clipping goes on). Always by default.
        generator: source of the noise, on the parameters' device; torch's own by default.

    Raises:
        ValueError: a negative ``eta`` or ``gamma``, or a ``max_norm`` that is not positive.
    """

    def __init__(
        self,
        eta: float = 0.3,
        gamma: float = 0.55,
        *,
        max_norm: float | None = None,
        order: Literal["after_clip", "before_clip"] = "after_clip",
        active: Callable[[int], bool] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if eta < 0 or gamma < 0:
            raise ValueError(f"eta and gamma must not be negative, not {eta} and {gamma}")
        if max_norm is not None and max_norm <= 0:
            raise ValueError(f"max_norm must be positive, not {max_norm}")
        if order not in ("after_clip", "before_clip"):
            raise ValueError(f"order must be 'after_clip' or 'before_clip', not {order!r}")
        self.eta = eta
        self.gamma = gamma
        self.max_norm = max_norm
        self.order = order
        self.active = active
        self.generator = generator
        self.step = 0
        self._buffers: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def sigma(self, step: int, eta: float | None = None) -> float:
        """Standard deviation of the noise at a step, counted from 0."""
        return math.sqrt((self.eta if eta is None else eta) / (1 + step) ** self.gamma)

    def __call__(self, parameters: Iterable[nn.Parameter], eta: float | None = None) -> None:
        """Clip and add noise to the gradients of ``parameters`` by hand, before ``optimizer.step()``; counts a step."""
        self._apply([([p for p in parameters if p.grad is not None], eta)])

    def attach(self, optimizer: torch.optim.Optimizer) -> Handle:
        """Add noise before every step of an optimizer (after its closure, where it is given one).

        Returns:
            A handle whose ``remove()`` ends it.

        Raises:
            ValueError: the optimizer is noised already.
            TypeError: it calls its closure several times per step (LBFGS).
        """
        optimizer = unwrap_optimizer(optimizer)
        if isinstance(optimizer, torch.optim.LBFGS):
            raise TypeError("LBFGS calls the closure several times per step: noise would break its line search")
        attached: tuple[GradientNoise, Handle] | None = getattr(optimizer, _MARK, None)
        if attached is not None and attached[1].attached:
            raise ValueError(
                f"this optimizer already adds gradient noise (eta={attached[0].eta}); remove the first handle"
            )

        def before_step(optimizer: torch.optim.Optimizer) -> None:
            groups = optimizer.param_groups
            self._apply([([p for p in g["params"] if p.grad is not None], g.get("noise_eta")) for g in groups])

        handle = on_step(optimizer, before_step)
        setattr(optimizer, _MARK, (self, handle))
        return handle

    def state_dict(self) -> dict[str, Any]:
        """The step, and the generator's state where there is one of its own."""
        state: dict[str, Any] = {"step": self.step}
        if self.generator is not None:
            state["generator"] = self.generator.get_state()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            ValueError: the state holds that of a generator and this noise has none of its own, or the other way round.
        """
        if ("generator" in state) != (self.generator is not None):
            has, wants = ("has", "give one") if "generator" in state else ("lacks", "leave it out")
            raise ValueError(f"the state {has} a generator's: {wants} as GradientNoise(generator=...) to go on alike")
        self.step = int(state["step"])
        if self.generator is not None:
            self.generator.set_state(state["generator"])

    @torch.no_grad()
    def _apply(self, groups: list[tuple[list[nn.Parameter], float | None]]) -> None:
        everything = [p for parameters, _ in groups for p in parameters]
        if any(p.grad is not None and p.grad.is_sparse for p in everything):
            raise ValueError("gradient noise needs dense gradients: make the embedding with sparse=False")
        norm = self._norm(everything)
        if self.order == "after_clip":
            self._clip(everything, norm)
        if self.active is None or self.active(self.step):
            for parameters, eta in groups:
                scale = self.sigma(self.step, eta)
                if scale and parameters:
                    self._add(parameters, scale)
        if self.order == "before_clip" and self.max_norm is not None:
            self._clip(everything, self._norm(everything))
        self.step += 1

    def _clip(self, parameters: list[nn.Parameter], norm: Tensor | None) -> None:
        if self.max_norm is not None and norm is not None and torch.isfinite(norm):
            # scaling by 1 / nan or 1 / inf would spoil all the others
            nn.utils.clip_grads_with_norm_(parameters, self.max_norm, norm)

    def _norm(self, parameters: list[nn.Parameter]) -> Tensor | None:
        """The gradients' global norm; where it is not finite, a warning that names the first gradient to blame."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            return None
        norm = nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm):
            place = next((i for i, g in enumerate(gradients) if not g.isfinite().all()), None)
            which = "" if place is None else f" (gradient {place}, of shape {tuple(gradients[place].shape)})"
            found = f"the gradient's norm is {float(norm)} at step {self.step}{which}"
            warnings.warn(f"{found}; it is passed on as it is", stacklevel=4)
        return norm

    def _add(self, parameters: list[nn.Parameter], scale: float) -> None:
        """One draw for all gradients of a type, into a buffer that is used again."""
        kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for p in parameters:
            if p.grad is not None:
                kinds.setdefault((p.grad.dtype, p.grad.device), []).append(p.grad)
        for (dtype, device), gradients in kinds.items():
            count = sum(g.numel() for g in gradients)
            buffer = self._buffers.get((dtype, device))
            if buffer is None or buffer.numel() < count:
                buffer = self._buffers[dtype, device] = torch.empty(count, dtype=dtype, device=device)
            noise = buffer[:count].normal_(generator=self.generator)
            parts = [n.view_as(g) for n, g in zip(noise.split([g.numel() for g in gradients]), gradients, strict=True)]
            torch._foreach_add_(gradients, parts, alpha=scale)
