"""A classifier of directions: cosines in the place of scalar products."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, normalize


class NormalizedLinear(nn.Linear):
    """Cosines between the input and each class vector, without a bias: what margins in angle are defined on.

    Args:
        in_features: size of a feature.
        out_features: number of classes.
        device: of the weight.
        dtype: of the weight.
    """

    def __init__(
        self, in_features: int, out_features: int, device: Any = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__(in_features, out_features, bias=False, device=device, dtype=dtype)

    def forward(self, input: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """Cosines, from -1 to 1; 0 for an input of zeros."""
        return linear(normalize(input, dim=-1), normalize(self.weight, dim=-1))
