"""Kernels of infinitely wide networks on the unit sphere: plainly, and in logarithms where depth makes them huge."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neurarium.theory.kernels._dual_activation import Activation, DualActivation


class LogKernel(NamedTuple):
    """A kernel in logarithms.

    Args:
        log: log |K|; minus infinity where K = 0.
        sign: of K; below 0 only where inputs point away from each other.
    """

    log: Float[Tensor, "*shape"]
    sign: Float[Tensor, "*shape"]


def sphere_gap(
    x1: Float[Tensor, "n features"], x2: Float[Tensor, "m features"], name: str = "x"
) -> Float[Tensor, "n m"]:
    """1 - cosine of every pair in float64, from squared distances, so that near pairs keep their digits.

    Args:
        x1: rows of unit length.
        x2: rows of unit length.
        name: what to call them in a message.

    Raises:
        ValueError: a row is not of unit length.
    """
    return (
        torch.cdist(unit_rows(x1, name), unit_rows(x2, name), compute_mode="donot_use_mm_for_euclid_dist").square() / 2
    )


def nngp(
    x1: Float[Tensor, "n features"],
    x2: Float[Tensor, "m features"],
    depth: int = 1,
    activation: Activation | DualActivation = torch.relu,
) -> Float[Tensor, "n m"]:
    """Covariance of the outputs of a random network of infinite width, its activation scaled to E phi(z)^2 = 1.

    S_0 = <x1, x2>, S_{l+1} = f(S_l), with f the activation's dual; no biases.

    Args:
        x1: rows of unit length.
        x2: rows of unit length.
        depth: hidden layers.
        activation: function or Hermite coefficients.

    Raises:
        ValueError: a row is not of unit length, or depth is negative.
    """
    return _kernel(x1, x2, depth, activation, "nngp")


def ntk(
    x1: Float[Tensor, "n features"],
    x2: Float[Tensor, "m features"],
    depth: int = 1,
    activation: Activation | DualActivation = torch.relu,
) -> Float[Tensor, "n m"]:
    """Neural tangent kernel of the same network (Jacot et al., 2018): K_0 = S_0, K_{l+1} = K_l f'(S_l) + S_{l+1}.

    Args:
        x1: rows of unit length.
        x2: rows of unit length.
        depth: hidden layers.
        activation: function or Hermite coefficients.

    Raises:
        ValueError: a row is not of unit length, or depth is negative.
    """
    return _kernel(x1, x2, depth, activation, "ntk")


def _kernel(
    x1: Tensor, x2: Tensor, depth: int, activation: Activation | DualActivation, kind: Literal["ntk", "nngp"]
) -> Tensor:
    found = log_deep_kernel(activation, sphere_gap(x1, x2), depth, kind)
    return (found.sign * found.log.exp()).to(x1.dtype)


def log_deep_kernel(
    activation: Activation | DualActivation,
    gap: Float[Tensor, "*shape"],
    depth: int,
    kind: Literal["ntk", "nngp"] = "ntk",
) -> LogKernel:
    """The kernel at any depth without overflow, underflow or cancellation.

    A layer multiplies the gap 1 - S of near pairs by B' and the correlation S of far ones by A'^2: neither 1 - S nor
    S^(depth) would survive in plain numbers. The gap and log |S| are both carried along.

    Args:
        activation: function, Hermite coefficients, or a dual that was computed before.
        gap: 1 - cosine, in [0, 2].
        depth: hidden layers.
        kind: "ntk" or "nngp".

    Raises:
        ValueError: depth is negative or kind unknown.
    """
    if depth < 0:
        raise ValueError(f"depth must not be negative, not {depth}")
    if kind not in ("ntk", "nngp"):
        raise ValueError(f"kind must be 'ntk' or 'nngp', not {kind!r}")
    dual = activation if isinstance(activation, DualActivation) else DualActivation(activation)
    state = Correlation.of(gap)
    total = LogKernel(state.log, state.sign)
    for _ in range(depth):
        state, slope = state.layer(dual)
        if kind == "ntk":
            total = _add(LogKernel(total.log + slope.log, total.sign * slope.sign), LogKernel(state.log, state.sign))
    return total if kind == "ntk" else LogKernel(state.log, state.sign)


class Correlation(NamedTuple):
    """S after some layers: its gap for what is near 1, its logarithm for what is near 0."""

    gap: Tensor
    log: Tensor
    sign: Tensor

    @classmethod
    def of(cls, gap: Tensor) -> Correlation:
        """At the input."""
        gap = gap.double().clamp(0, 2)
        return cls(gap, torch.where(gap < 0.5, torch.log1p(-gap), (1 - gap).abs().log()), (1 - gap).sign())

    def layer(self, dual: DualActivation) -> tuple[Correlation, LogKernel]:
        """One layer on: f(S), and f'(S)."""
        gap, log, sign = (torch.empty_like(part) for part in self)
        slope, slope_sign = torch.empty_like(log), torch.empty_like(log)
        near, far = self.gap < 0.5, self.gap > 1.5
        small = ~(near | far)
        if bool(small.any()):
            found = dual.small(self.sign[small], self.log[small])
            log[small], sign[small], slope[small], slope_sign[small] = found
            gap[small] = 1 - sign[small] * log[small].exp()
        for where in (near, far):
            if bool(where.any()):
                before = self.gap[where]
                value, rise = dual.value(1 - before), dual.derivative(1 - before)
                after = dual.gap(before) if where is near else 1 - value
                gap[where], sign[where] = after, value.sign()
                log[where] = torch.where(after < 0.5, torch.log1p(-after), value.abs().log())
                slope[where], slope_sign[where] = rise.abs().log(), rise.sign()
        return Correlation(gap, log, sign), LogKernel(slope, slope_sign)


def _add(a: LogKernel, b: LogKernel) -> LogKernel:
    top = torch.maximum(a.log, b.log)
    top = torch.where(top == -math.inf, 0.0, top)
    total = a.sign * (a.log - top).exp() + b.sign * (b.log - top).exp()
    return LogKernel(top + total.abs().log(), total.sign())


def unit_rows(x: Tensor, name: str) -> Tensor:
    """Rows in float64, of unit length to the last digit.

    Raises:
        ValueError: a row is not near unit length.
    """
    wide = x.double()
    length = wide.norm(dim=1, keepdim=True)
    if not bool(((length - 1).abs() < 1e-3).all()):
        raise ValueError(f"rows of {name} must have unit length; divide them by {name}.norm(dim=1, keepdim=True) first")
    return wide / length
