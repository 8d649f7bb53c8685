"""S-shaped rectified linear units: two learned knees per unit (Jin et al., 2016), the activation of SET's networks."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class SReLU(nn.Module):
    """The identity between two learned thresholds, with learned slopes beyond them.

    ``t_r + a_r (x − t_r)`` from ``t_r`` up, ``t_l + a_l (x − t_l)`` from ``t_l`` down, ``x`` between; one set of the
    four numbers per unit. It begins as ReLU: ``t_l = a_l = 0``, ``t_r = a_r = 1``.

    Args:
        num_features: size of the last dimension of the input.
        device: where the parameters are made.
        dtype: their type.
    """

    def __init__(
        self, num_features: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.left_threshold = nn.Parameter(torch.zeros(num_features, device=device, dtype=dtype))
        self.left_slope = nn.Parameter(torch.zeros(num_features, device=device, dtype=dtype))
        self.right_threshold = nn.Parameter(torch.ones(num_features, device=device, dtype=dtype))
        self.right_slope = nn.Parameter(torch.ones(num_features, device=device, dtype=dtype))

    def forward(self, x: Float[Tensor, "*batch num_features"]) -> Float[Tensor, "*batch num_features"]:
        """Apply the unit's own function to every entry of the last dimension."""
        above = self.right_slope * (x - self.right_threshold).clamp_min(0)
        below = self.left_slope * (x - self.left_threshold).clamp_max(0)
        return torch.minimum(torch.maximum(x, self.left_threshold), self.right_threshold) + above + below

    def extra_repr(self) -> str:
        return f"num_features={self.num_features}"
