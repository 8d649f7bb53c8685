"""The scalar problems that a deep linear classifier with free features falls apart into."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def threshold(depth: int) -> float:
    """t_M = (M-1)^((M-1)/M) / M: the penalty b/n above which zero is the global minimum (1 at depth 1)."""
    return math.exp((depth - 1) / depth * math.log(depth - 1)) / depth if depth > 1 else 1.0


def mode_sizes(penalty: Float[Tensor, modes], depth: int) -> Float[Tensor, modes]:
    """argmin over x >= 0 of 1/(x^M + 1) + penalty x, for each penalty.

    Stationary points solve penalty = M x^(M-1) / (x^M + 1)^2. The larger root is a local minimum, and the global one
    only while the penalty is below `threshold`; at the threshold itself both are, and the root is given.

    Args:
        penalty: b / n_k, positive; infinite gives 0.
        depth: M.
    """
    penalty = penalty.double()
    if depth == 1:
        return (penalty.rsqrt() - 1).clamp_min(0)
    alive = penalty <= threshold(depth)
    # In y = log x the slope, log M + (M-1) y - 2 log(x^M + 1), is concave, falls from the size at the threshold
    # (x^M = M - 1) on, and lies below log M - (M+1) y, which gives a start above the root: Newton's steps only fall.
    target = penalty.clamp(max=threshold(depth)).log()
    y = (math.log(depth) - target) / (depth + 1)
    for _ in range(12):
        excess = math.log(depth) + (depth - 1) * y - 2 * torch.nn.functional.softplus(depth * y) - target
        y = y - excess / ((depth - 1) - 2 * depth * torch.sigmoid(depth * y))
    return torch.where(alive, y.exp(), 0.0)


def cross_entropy_scale(classes: int, product: float, depth: int) -> tuple[float, float]:
    """argmin over a >= 0 of log(1 + (K-1) e^-a) + (K-1)(M+1)/2 (product a^2)^(1/(M+1)), and its value.

    Args:
        classes: K.
        product: lambda^M lambda_H n, where lambda^M is the product of the layers' decays.
        depth: M.
    """
    order = depth + 1

    def value(a: float) -> float:
        return math.log1p((classes - 1) * math.exp(-a)) + (classes - 1) * order / 2 * (product * a * a) ** (1 / order)

    # The derivative is zero where (1 - 2/(M+1)) log a - log(e^a + K - 1) = log(product) / (M+1): a function that rises
    # to one peak and then falls (at depth 1 it only falls). The larger root is the local minimum.
    def excess(a: float) -> float:
        return (
            (1 - 2 / order) * math.log(a) - (a + math.log1p((classes - 1) * math.exp(-a))) - math.log(product) / order
        )

    low = 1e-12
    if depth > 1:  # the peak: where the slope changes its sign
        left, right = 1e-12, 1e3
        for _ in range(200):
            low = (left + right) / 2
            rising = (1 - 2 / order) / low > 1 / (1 + (classes - 1) * math.exp(-low))
            left, right = (low, right) if rising else (left, low)
    if excess(low) <= 0:
        return 0.0, math.log(classes)
    high = 2 * low + 1
    while excess(high) > 0:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return (low, value(low)) if value(low) < math.log(classes) else (0.0, math.log(classes))
