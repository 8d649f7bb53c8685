"""The identity whose gradient is reversed: what follows it is trained, what precedes it is trained against it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.scale * gradients[0], None


class GradientReversal(nn.Module):
    """Hands on its input, and the gradient times ``-scale`` (Ganin and Lempitsky, arXiv 1409.7495).

    Put it before a classifier of a protected attribute: the classifier learns to read the attribute, what lies below
    learns to hide it.

    Args:
        scale: strength of the reversed gradient.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """The input, unchanged."""
        result: Tensor = _Reverse.apply(x, self.scale)
        return result
