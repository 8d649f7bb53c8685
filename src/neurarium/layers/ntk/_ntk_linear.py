"""A linear layer in the parametrisation in which width can go to infinity."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear


class NTKLinear(nn.Module):
    """weight_std / sqrt(in_features) W x + bias_std b, with all entries of W and b drawn from N(0, 1).

    The scale stands in the forward pass and not in the weights, so that one learning rate suits every width and the
    tangent kernel has a limit (Jacot et al., 2018).

    Args:
        in_features: inputs.
        out_features: outputs.
        weight_std: scale of the weights.
        bias_std: scale of the bias; 0 for none.
        device: of the parameters.
        dtype: of the parameters.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        weight_std: float = 1.0,
        bias_std: float = 0.0,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if min(in_features, out_features) < 1:
            raise ValueError("in_features and out_features must be at least 1")
        self.in_features, self.out_features = in_features, out_features
        self.weight_std, self.bias_std = weight_std, bias_std
        self.weight = nn.Parameter(torch.empty(out_features, in_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias_std else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every entry from N(0, 1)."""
        nn.init.normal_(self.weight)
        if self.bias is not None:
            nn.init.normal_(self.bias)

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """Along the last dimension."""
        out = linear(x, self.weight) * (self.weight_std / math.sqrt(self.in_features))
        return out if self.bias is None else out + self.bias_std * self.bias

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, weight_std={self.weight_std:g}, bias_std={self.bias_std:g}"
