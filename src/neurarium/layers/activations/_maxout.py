"""Maxout units: the maximum over several affine maps (Goodfellow et al. 2013)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Maxout(nn.Module):
    """``h_i = max_k (x . W_ik + b_ik)``: a layer that learns its own convex, piecewise linear activation.

    The weight holds ``pieces`` affine maps for each unit; the maximum over them is the only nonlinearity, so no
    activation follows. It has ``pieces`` times the parameters and the cost of a linear layer of the same width.

    Args:
        in_features: size of the last dimension of the input.
        out_features: number of units.
        pieces: affine maps per unit.
        bias: add a learned constant to every map.
        device: where the parameters are made.
        dtype: their type.

    Raises:
        ValueError: a size is below 1.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        pieces: int = 2,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, size in (("in_features", in_features), ("out_features", out_features), ("pieces", pieces)):
            if size < 1:
                raise ValueError(f"{name} must be at least 1, not {size}")
        self.in_features, self.out_features, self.pieces = in_features, out_features, pieces
        self.weight = nn.Parameter(torch.empty(out_features, pieces, in_features, device=device, dtype=dtype))
        if bias:
            self.bias = nn.Parameter(torch.empty(out_features, pieces, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all maps as `torch.nn.Linear` draws its one: uniform within ``1 / sqrt(in_features)``."""
        bound = 1 / math.sqrt(self.in_features)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """The largest of each unit's affine maps."""
        bias = None if self.bias is None else self.bias.flatten()
        maps = nn.functional.linear(x, self.weight.flatten(0, 1), bias)
        return maps.unflatten(-1, (self.out_features, self.pieces)).amax(-1)

    def extra_repr(self) -> str:
        """The arguments."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, pieces={self.pieces}, "
            f"bias={self.bias is not None}"
        )
