"""A rectified normal variable: noise in training, its mean afterwards, which is a softplus or nearly a ReLU."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

SOFTPLUS_SCALE = 1.7761
"""Deviation at which the mean of a rectified normal variable is within 0.0155 of the softplus (Shen and Cremers)."""

Scale = Literal["relu", "softplus"] | float
_SMALLEST = 1e-6  # a deviation of zero has the rectifier itself as its limit, which this is within 1e-6 of


class RectifiedGaussian(nn.Module):
    """``X = max(slope Y, Y)`` with ``Y ~ N(e, s(e)²)``: drawn in training, its expectation in evaluation.

    With ``s = 1.7761`` the expectation is the softplus within 0.0155; with ``s(e) = relu(tanh e)`` it is ReLU within
    0.0371; with a slope it is the leaky version. It is the random variable that these activations stand for when a
    network is read as a chain graph (Shen and Cremers, 2020), and a regulariser whose noise is the model's own.

    Args:
        scale: "relu", "softplus", or a constant deviation.
        negative_slope: 0 for ReLU, above for the leaky one.

    Raises:
        ValueError: a negative deviation, an unknown name, or a slope outside 0..1.
    """

    def __init__(self, scale: Scale = "relu", negative_slope: float = 0.0) -> None:
        super().__init__()
        if not (scale in ("relu", "softplus") if isinstance(scale, str) else scale >= 0):
            raise ValueError(f"scale must be 'relu', 'softplus' or a deviation, not {scale!r}")
        if not 0 <= negative_slope < 1:
            raise ValueError(f"negative_slope must be at least 0 and below 1, not {negative_slope}")
        self.scale, self.negative_slope = scale, negative_slope

    def deviation(self, e: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """``s(e)``, at least 1e-6."""
        if self.scale == "relu":
            return e.tanh().clamp_min(_SMALLEST)
        constant = SOFTPLUS_SCALE if isinstance(self.scale, str) else max(self.scale, _SMALLEST)
        return torch.full_like(e, constant)

    def mean(
        self, e: Float[Tensor, "*shape"], variance: Float[Tensor, "*shape"] | None = None
    ) -> Float[Tensor, "*shape"]:
        """Expectation for inputs ``e``, or for normal ones of mean ``e`` and some variance (``s`` is that at ``e``)."""
        s = self._spread(e, variance)
        rectified = e * torch.special.ndtr(e / s) + s * normal_density(e / s)
        slope = self.negative_slope
        return slope * e + (1 - slope) * rectified if slope else rectified

    def variance(
        self, e: Float[Tensor, "*shape"], variance: Float[Tensor, "*shape"] | None = None
    ) -> Float[Tensor, "*shape"]:
        """Variance for inputs ``e``, or for normal ones."""
        s = self._spread(e, variance)
        whole = e.square() + s.square()
        above = whole * torch.special.ndtr(e / s) + e * s * normal_density(e / s)
        second = above + self.negative_slope**2 * (whole - above)
        return (second - self.mean(e, variance).square()).clamp_min(0)

    def draw(
        self,
        e: Float[Tensor, "*shape"],
        variance: Float[Tensor, "*shape"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "*shape"]:
        """A draw that is differentiable in ``e``."""
        device = e.device if generator is None else generator.device
        y = e + self._spread(e, variance) * torch.randn(e.shape, generator=generator, device=device).to(e)
        return torch.maximum(self.negative_slope * y, y)

    def log_prob(self, x: Float[Tensor, "*shape"], e: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Log-density at ``x``, without a slope the log-mass of zero; minus infinity where ``X`` cannot be."""
        s, slope = self.deviation(e), self.negative_slope
        y = torch.where(x > 0, x, x / slope) if slope else x
        inside = -((y - e) / s).square() / 2 - s.log() - math.log(2 * math.pi) / 2
        if slope:
            return torch.where(x > 0, inside, inside - math.log(slope))
        below = torch.where(x == 0, torch.special.log_ndtr(-e / s), -torch.inf)
        return torch.where(x > 0, inside, below)

    def forward(self, e: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """A draw in training, the expectation in evaluation."""
        return self.draw(e) if self.training else self.mean(e)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"scale={self.scale!r}, negative_slope={self.negative_slope}"

    def _spread(self, e: Tensor, variance: Tensor | None) -> Tensor:
        s = self.deviation(e)
        return s if variance is None else (s.square() + variance).sqrt()


def normal_density(z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Of the standard normal law."""
    return torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
