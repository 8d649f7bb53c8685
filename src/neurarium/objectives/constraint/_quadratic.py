"""A spring on every weight: the quadratic penalty that continual learning adds to a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from neurarium.training import buffer_key, parameter_name


class QuadraticPenalty(nn.Module):
    """1/2 sum_i F_i (theta_i - m_i)^2 + c over named parameters.

    A sum of such penalties is one of them again, so any number of them takes the memory and time of one. It starts
    empty (zero everywhere). Stiffness F, centre m and offset c are buffers and survive ``load_state_dict`` into a fresh
    object. Parameters that were never anchored are free; one that was anchored must stay, in its shape.
    """

    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._stiffness = nn.Module()
        self._centre = nn.Module()
        self.register_buffer("offset", torch.zeros((), dtype=torch.float64))

    @property
    def stiffness(self) -> dict[str, Tensor]:
        """F by parameter name."""
        return {parameter_name(name): value for name, value in self._stiffness._buffers.items() if value is not None}

    @property
    def centre(self) -> dict[str, Tensor]:
        """m by parameter name."""
        return {parameter_name(name): value for name, value in self._centre._buffers.items() if value is not None}

    @torch.no_grad()
    def add(self, stiffness: Mapping[str, Tensor], centre: Mapping[str, Tensor]) -> None:
        """Add 1/2 sum F2 (theta - m2)^2, keeping value and gradient of the sum.

        F = F1 + F2, m = (F1 m1 + F2 m2) / F and c grows by 1/2 sum F1 F2 / F (m1 - m2)^2, computed in float64 and in
        forms that do not cancel.

        Args:
            stiffness: F2 by parameter name, non-negative.
            centre: m2 by parameter name.

        Raises:
            ValueError: names or shapes do not match, or a stiffness is negative or not finite.
        """
        old = self.stiffness
        for name, f in stiffness.items():
            if name not in centre or centre[name].shape != f.shape:
                raise ValueError(f"centre needs parameter {name!r} in the shape of its stiffness, {list(f.shape)}")
            if not bool(((f >= 0) & torch.isfinite(f)).all()):
                raise ValueError(f"stiffness of parameter {name!r} must be finite and not negative")
            if name in old and old[name].shape != f.shape:
                raise ValueError(changed(name, old[name], f))
        for name, f in stiffness.items():
            self._add_one(name, f, centre[name])

    def _add_one(self, name: str, f2: Tensor, m2: Tensor) -> None:
        key = buffer_key(name)
        dtype = torch.promote_types(m2.dtype, torch.float32)
        f1, m1 = self.stiffness.get(name), self.centre.get(name)
        if f1 is None or m1 is None:
            self._stiffness.register_buffer(key, f2.detach().to(m2.device, dtype, copy=True))
            self._centre.register_buffer(key, m2.detach().to(dtype, copy=True))
            return
        wide = torch.float32 if m2.device.type == "mps" else torch.float64
        a, b = f1.to(wide), f2.to(f1.device, wide)
        total = a + b
        share = torch.where(total > 0, b / total, torch.ones_like(total))  # free weights follow the latest centre
        step = m2.to(m1.device, wide) - m1.to(wide)
        self.offset += (0.5 * a * share * step.square()).sum().to(self.offset)
        f1.copy_(total)
        m1.copy_(m1.to(wide) + share * step)

    @torch.no_grad()
    def scale(self, factor: float) -> None:
        """Multiply the whole penalty by a number."""
        for value in self.stiffness.values():
            value.mul_(factor)
        self.offset.mul_(factor)

    @torch.no_grad()
    def recentre(self, centre: Mapping[str, Tensor]) -> None:
        """Move every spring's rest point, and forget the offset: the penalty is zero at the new centre."""
        for name, value in self.centre.items():
            if name not in centre or centre[name].shape != value.shape:
                raise ValueError(changed(name, value, centre.get(name)))
            value.copy_(centre[name])
        self.offset.zero_()

    @torch.no_grad()
    def grow(self, parameters: Mapping[str, Tensor]) -> None:
        """Make room in springs whose parameter has become larger: its old part keeps them, what is new is free.

        The old part is the leading corner, as in a head whose layer got further rows at the end.

        Args:
            parameters: current values by name.

        Raises:
            ValueError: an anchored parameter is gone, has other dimensions or has become smaller.
        """
        centres = self.centre
        for name, stiffness in self.stiffness.items():
            now = parameters.get(name)
            if now is None or now.dim() != stiffness.dim() or any(a < b for a, b in zip(now.shape, stiffness.shape)):
                raise ValueError(changed(name, stiffness, now))
            if now.shape != stiffness.shape:
                key = buffer_key(name)
                wide = now.detach().to(centres[name].device, centres[name].dtype)
                self._stiffness.register_buffer(key, grown(stiffness, torch.zeros_like(wide)))
                self._centre.register_buffer(key, grown(centres[name], wide))

    def largest(self) -> float:
        """The largest stiffness, 0 while empty."""
        return max((float(value.max()) for value in self.stiffness.values()), default=0.0)

    def matched(
        self, parameters: Mapping[str, Tensor], *, partial: bool = False
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Anchored parameters with their stiffness and centre, as three lists.

        Args:
            parameters: current values by name.
            partial: leave out anchored parameters that are not given.

        Raises:
            ValueError: an anchored parameter is missing or has another shape.
        """
        found, stiffness, centre = [], [], []
        centres = self.centre
        for name, value in self.stiffness.items():
            parameter = parameters.get(name)
            if parameter is None and partial:
                continue
            if parameter is None or parameter.shape != value.shape:
                raise ValueError(changed(name, value, parameter))
            found.append(parameter)
            stiffness.append(value)
            centre.append(centres[name])
        return found, stiffness, centre

    def forward(self, parameters: Mapping[str, Tensor], weight: float = 1.0) -> Tensor:
        """The penalty times ``weight``, a scalar with a gradient for every anchored parameter (once differentiable).

        Args:
            parameters: current values by name (``dict(model.named_parameters())``); more than were anchored are
                allowed.
            weight: what to multiply by, at no further cost.

        Raises:
            ValueError: an anchored parameter is missing or has another shape.
        """
        found, stiffness, centre = self.matched(parameters)
        if not found:
            return torch.zeros((), device=self.offset.device)
        return Spring.apply(weight, self.offset, len(found), *found, *stiffness, *centre)

    @torch.no_grad()
    def proximal(self, parameters: Mapping[str, Tensor], rate: float) -> None:
        """theta <- argmin 1/2 |theta' - theta|^2 + rate * penalty(theta'), in place: stable for any rate.

        That is (theta + rate F m) / (1 + rate F), computed as a step towards m. Anchored parameters that are not given
        stay.
        """
        found, stiffness, centre = self.matched(parameters, partial=True)
        if not found:
            return
        pull = torch._foreach_mul(stiffness, rate)
        torch._foreach_div_(pull, torch._foreach_add(pull, 1.0))
        step = torch._foreach_sub(centre, found)
        torch._foreach_mul_(step, pull)
        torch._foreach_add_(found, step)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        # The buffers of the state, not those that this object happens to have, are the ones to load.
        for part, module in (("_stiffness", self._stiffness), ("_centre", self._centre)):
            for key in list(module._buffers):
                delattr(module, key)
            start = f"{prefix}{part}."
            for key, value in state_dict.items():
                if key.startswith(start):
                    module.register_buffer(key[len(start) :], torch.empty_like(value, device=self.offset.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)


class Spring(torch.autograd.Function):
    """weight * (1/2 sum F (theta - m)^2 + c) in three passes over the weights, and its gradient in one more."""

    @staticmethod
    def forward(ctx: Any, weight: float, offset: Tensor, count: int, *tensors: Tensor) -> Tensor:
        stretch, force = pull(count, tensors)
        ctx.save_for_backward(*tensors)
        ctx.weight, ctx.count, ctx.force = weight, count, force
        # All terms are positive, so the sums do not cancel.
        parts = [torch.dot(s.reshape(-1), f.reshape(-1)) for s, f in zip(stretch, force)]
        return torch.stack(parts).sum().mul_(0.5).add_(offset).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        # The first backward pass takes the buffers of the forward pass for its gradients; another makes its own.
        force = ctx.force if ctx.force is not None else pull(ctx.count, tensors)[1]
        ctx.force = None
        torch._foreach_mul_(force, ctx.weight * upstream)
        cast = [f.to(parameter.dtype) for f, parameter in zip(force, tensors)]
        return (None, None, None, *cast, *([None] * (2 * ctx.count)))


def pull(count: int, tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor], list[Tensor]]:
    """theta - m and F (theta - m), from ``count`` parameters, as many stiffnesses and as many centres."""
    stretch = torch._foreach_sub(tensors[:count], tensors[2 * count :])  # type: ignore[call-overload]
    return stretch, list(torch._foreach_mul(stretch, tensors[count : 2 * count]))  # type: ignore[arg-type]


def grown(old: Tensor, new: Tensor) -> Tensor:
    """A copy of a tensor with an older, smaller one in its leading corner."""
    result = new.clone()
    result[tuple(slice(size) for size in old.shape)] = old
    return result


def changed(name: str, anchored: Tensor, now: Tensor | None) -> str:
    """What to say of an anchored parameter that is no longer what it was."""
    state = "is gone from the model" if now is None else f"now has shape {list(now.shape)}"
    return f"anchored parameter {name!r} had shape {list(anchored.shape)} and {state}; anchored parameters must stay"
