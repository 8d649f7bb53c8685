"""What classifiers of infinitely wide networks become as depth grows (Radhakrishnan, Belkin and Uhler, 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from neurarium.layers import HermiteActivation
from neurarium.theory.kernels._deep_kernel import Correlation, LogKernel
from neurarium.theory.kernels._dual_activation import Activation, DualActivation, Moments

Kind = Literal["nearest-neighbour", "majority", "singular", "linear", "collapsed"]


@dataclass(frozen=True)
class DepthLimit:
    """Where regression with the neural tangent kernel of an activation tends to with depth.

    Args:
        kind: "nearest-neighbour", "majority" or "singular" (weights 1 / distance^alpha); outside the three classes of
            the theory "linear" (the kernel stays that of the inputs) and "collapsed" (all inputs look alike).
        alpha: exponent of the weights: infinite for the nearest neighbour, 0 for the majority, NaN outside the classes.
        moments: A, A' and B', which decide.
        reason: why, in one sentence.
    """

    kind: Kind
    alpha: float
    moments: Moments
    reason: str

    def summary(self) -> str:
        """The limit and its reason."""
        a, slope, squared = self.moments
        power = f" (alpha = {self.alpha:.4g})" if self.kind == "singular" else ""
        return f"{self.kind}{power}: {self.reason} [A = {a:.4g}, A' = {slope:.4g}, B' = {squared:.4g}]"


def classify_activation(activation: Activation | DualActivation) -> DepthLimit:
    """What very deep and wide networks of an activation tend to as classifiers (Theorem 1).

    Inputs on the unit sphere at angles below 90 degrees, no biases, weights scaled so that signals keep their size.

    Args:
        activation: a function of a tensor, Hermite coefficients, or a dual that was computed before.
    """
    dual = activation if isinstance(activation, DualActivation) else DualActivation(activation)
    a, slope, squared = moments = dual.moments
    tiny = 1e-8
    if math.isinf(squared):
        return DepthLimit("collapsed", math.nan, moments, "the activation jumps, so near inputs part at once: B' = inf")
    if abs(slope) > 1 - tiny:
        return DepthLimit("linear", math.nan, moments, "the activation is linear on its inputs: |A'| = 1")
    if abs(a) <= tiny and abs(slope) <= tiny:
        reason = "A = A' = 0: correlations are squared or more by each layer, so that the nearest outweighs all others"
        return DepthLimit("nearest-neighbour", math.inf, moments, reason)
    if abs(a) <= tiny:
        alpha = -4 * math.log(abs(slope)) / math.log(squared)
        reason = "A = 0 and 0 < |A'| < 1: far correlations shrink by A'^2 a layer, near gaps grow by B'"
        return DepthLimit("singular", alpha, moments, reason)
    if squared > 1 + tiny:
        reason = "A is not 0 and B' > 1: the diagonal grows without bound, all else tends to one constant"
        return DepthLimit("majority", 0.0, moments, reason)
    if squared > 1 - tiny:
        reason = "A is not 0 and B' = 1: off the diagonal K / (L + 1) tends to one constant, at the rate 1 / L only"
        return DepthLimit("majority", 0.0, moments, reason)
    reason = "A is not 0 and B' < 1: all inputs become alike, the diagonal too, and regression has no limit"
    return DepthLimit("collapsed", math.nan, moments, reason)


def optimal_activation(dim: float) -> HermiteActivation:
    """An activation whose infinitely deep networks are Bayes-optimal on data of a dimension: alpha = dim.

    A'^2 = 2^(-dim / 2) and B' = 2, with what is left on the two degrees that make it so: 2 and 3 for dim >= 2, where it
    is the paper's 2^(-d/4) x + sqrt(1 - 2^(1 - d/2)) h_2 + 2^(-d/4) h_3; 4 and 5 for dim = 1.

    Args:
        dim: of the data: on the sphere of R^(dim + 1).

    Raises:
        ValueError: dim is below 1.
    """
    if not dim >= 1 or math.isinf(dim):
        raise ValueError(f"dim must be a number from 1 on, not {dim}")
    first = 2.0 ** (-dim / 2)
    rest = 1 - first
    mean = (2 - first) / rest  # degree that the rest has on average
    low = math.floor(mean + 1e-12)
    squares = [0.0] * (low + 2)
    squares[1], squares[low], squares[low + 1] = first, rest * (low + 1 - mean), max(rest * (mean - low), 0.0)
    return HermiteActivation([math.sqrt(max(square, 0.0)) for square in squares])


def limit_kernel(activation: Activation | DualActivation, gap: Float[Tensor, "*shape"]) -> LogKernel:
    """g = lim S_L / A'^(2L), the kernel at infinite depth where A = 0 and A' is not: R(r) / r^alpha.

    The tangent kernel divided by L + 1 has the same limit. g solves Schroeder's equation g(f) = A'^2 g; the iteration
    ends where f is linear to the last digit.

    Args:
        activation: of the class "singular".
        gap: 1 - cosine = r^2 / 2, in [0, 2]; infinite at 0.

    Raises:
        ValueError: the activation is of another class.
    """
    dual = activation if isinstance(activation, DualActivation) else DualActivation(activation)
    limit = classify_activation(dual)
    if limit.kind != "singular":
        raise ValueError(f"only activations with A = 0 and 0 < |A'| < 1 have a limit kernel; this one: {limit.reason}")
    apart = gap > 0
    state = Correlation.of(torch.where(apart, gap, 1.0))
    growth, depth = math.log(dual.moments.slope**2), 0
    while bool(((state.log > -40) & (state.log < 0)).any()):  # an odd activation leaves opposite inputs at -1
        state, _ = state.layer(dual)
        depth += 1
    log = torch.where(apart & (state.log < 0), state.log - depth * growth, math.inf)
    return LogKernel(log, torch.where(apart, state.sign, 1.0))
