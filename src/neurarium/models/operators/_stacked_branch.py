"""Many one-hidden-layer networks of one output each, computed as two batched products."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class StackedBranch(nn.Module):
    """``width`` networks side by side, each ``inputs -> hidden -> 1`` (Lu et al. 2021, the stacked form of theorem 1).

    Args:
        inputs: numbers that each network reads.
        hidden: units of each.
        width: how many networks.
        activation: after the hidden layers; ReLU by default.
        generator: of the initial weights (Glorot's normal ones); biases start at 0.
        device: where the parameters live.
        dtype: of the parameters.

    Shape:
        u: [batch, inputs]; output: [batch, width].

    Raises:
        ValueError: a size below 1.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        width: int,
        activation: nn.Module | None = None,
        generator: torch.Generator | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if min(inputs, hidden, width) < 1:
            raise ValueError(f"inputs, hidden and width must be at least 1, not {inputs}, {hidden} and {width}")
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.in_features, self.hidden, self.width = inputs, hidden, width
        self.weight = nn.Parameter(torch.empty(width * hidden, inputs, **where))
        self.bias = nn.Parameter(torch.zeros(width * hidden, **where))
        self.out_weight = nn.Parameter(torch.empty(width, hidden, **where))
        self.out_bias = nn.Parameter(torch.zeros(width, **where))
        self.activation = activation if activation is not None else nn.ReLU()
        nn.init.normal_(self.weight, std=math.sqrt(2 / (inputs + hidden)), generator=generator)
        nn.init.normal_(self.out_weight, std=math.sqrt(2 / (hidden + 1)), generator=generator)

    def forward(self, u: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch width"]:
        """One output of each network."""
        hidden = self.activation(nn.functional.linear(u, self.weight, self.bias))
        return (hidden.unflatten(-1, (self.width, self.hidden)) * self.out_weight).sum(-1) + self.out_bias

    def extra_repr(self) -> str:
        return f"{self.width} networks {self.in_features}-{self.hidden}-1"
