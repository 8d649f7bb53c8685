"""The dual of the rectifier in closed form (Cho and Saul, 2009: the arc-cosine kernels of order 1 and 0)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def relu_dual(c: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """E relu(u) relu(v) for standard normals u, v of correlation c: (sin t + (pi - t) c) / (2 pi), t = arccos c.

    Args:
        c: correlations in [-1, 1].
    """
    t = c.clamp(-1, 1).arccos()
    return (t.sin() + (math.pi - t) * c) / (2 * math.pi)


def relu_dual_derivative(c: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """P(u > 0, v > 0) for standard normals of correlation c: (pi - t) / (2 pi), t = arccos c.

    Args:
        c: correlations in [-1, 1].
    """
    return (math.pi - c.clamp(-1, 1).arccos()) / (2 * math.pi)


def relu_gap(gap: Tensor) -> Tensor:
    """1 - 2 `relu_dual` (1 - gap), exact also where the gap is tiny; gap in [0, 2]."""
    t = 2 * (gap / 2).clamp(0, 1).sqrt().arcsin()
    series = -(t**3) / 3 * (1 - t**2 / 10 * (1 - t**2 / 28 * (1 - t**2 / 54)))  # t cos t - sin t
    return gap + torch.where(t < 0.1, series, t * t.cos() - t.sin()) / math.pi


def relu_weights(degree: int) -> Tensor:
    """Squared Hermite coefficients of sqrt(2) relu, degrees 0 to ``degree``: the power series of 2 `relu_dual`."""
    weights = torch.zeros(degree + 1, dtype=torch.float64)
    weights[0] = 1 / math.pi
    if degree:
        weights[1] = 0.5
    term = 1 / math.pi  # of 1 / (pi sqrt(1 - c^2)), the second derivative
    for p in range(2, degree + 1, 2):
        weights[p] = term / (p * (p - 1))
        term *= (p - 1) / p
    return weights
