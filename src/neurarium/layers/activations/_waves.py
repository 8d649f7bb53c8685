"""Activations that are waves and bumps."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Sine(nn.Module):
    """sin(w x): a network of them represents fast changes as easily as slow ones (Sitzmann et al., 2020).

    Args:
        frequency: w.
    """

    def __init__(self, frequency: float = 1.0) -> None:
        super().__init__()
        self.frequency = frequency

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Elementwise."""
        return torch.sin(self.frequency * x)

    def extra_repr(self) -> str:
        return f"frequency={self.frequency:g}"


class GaussianBump(nn.Module):
    """exp(-(x / s)^2): a bump around 0.

    Args:
        scale: s, its width.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Elementwise."""
        return torch.exp(-((x / self.scale) ** 2))

    def extra_repr(self) -> str:
        return f"scale={self.scale:g}"
