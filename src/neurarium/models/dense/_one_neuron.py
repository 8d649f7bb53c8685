"""The one-neuron network in which ReZero's effect on learning can be written down (section 3.1)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class OneNeuronNet(nn.Module):
    """``x_L = (1 + alpha * w)^L * x_0``: ``depth`` residual blocks of one linear neuron that share ``alpha`` and ``w``.

    Args:
        depth: number of blocks, L.
        alpha: the residual scalar at the start; 0 is ReZero, 1 an ordinary residual network.
        weight: the neuron's weight at the start.

    Raises:
        ValueError: ``depth`` is below 1.
    """

    def __init__(self, depth: int, alpha: float = 0.0, weight: float = 1.0) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth must be at least 1, not {depth}")
        self.depth = depth
        self.alpha = nn.Parameter(torch.tensor([alpha]))
        self.weight = nn.Parameter(torch.tensor([weight]))

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Outputs, block by block."""
        for _ in range(self.depth):
            x = x + self.alpha * self.weight * x
        return x

    @torch.no_grad()
    def gradients(self, x: float, target: float) -> tuple[float, float]:
        """Closed-form gradients of ``(x_L - target)^2 / 2`` for ``alpha`` and for ``weight``.

        At ``alpha = weight = 1`` both grow like ``L * 2^(2L - 1)``; at ``alpha = 0`` the weight's is zero.
        """
        alpha, weight = self.alpha.item(), self.weight.item()
        error = (1 + alpha * weight) ** self.depth * x - target
        slope = error * self.depth * (1 + alpha * weight) ** (self.depth - 1) * x
        return slope * weight, slope * alpha

    @torch.no_grad()
    def largest_stable_lr(self, x: float) -> float:
        """Gradient descent on ``alpha`` from 0 diverges above ``2 / (L w x_0)^2`` (linearised at the start)."""
        return 2.0 / (self.depth * self.weight.item() * x) ** 2
