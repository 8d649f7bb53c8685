"""A low-rank term on a weight (Hu et al., 2021)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class LowRank(nn.Module):
    """A parametrization W + (alpha / rank) B A with B = 0 at the start.

    Args:
        weight: W, a matrix.
        rank: columns of B and rows of A.
        alpha: scale.
        generator: of A (uniform, as `nn.Linear`'s weights).
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float, generator: torch.Generator | None = None) -> None:
        super().__init__()
        rows, columns = weight.shape
        start = (torch.rand(rank, columns, generator=generator) * 2 - 1) / math.sqrt(columns)
        self.a = nn.Parameter(start.to(weight))
        self.b = nn.Parameter(weight.new_zeros(rows, rank))
        self.scale = alpha / rank

    def forward(self, original: Tensor) -> Tensor:
        """The adapted weight."""
        return torch.addmm(original, self.b, self.a, alpha=self.scale)
