"""A scale and a shift for each channel: a normalisation without statistics."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Affine(nn.Module):
    """``weight * x + bias`` for each channel (Touvron et al., 2021, section 2): no mean, no variance.

    `fold_affine` takes it out of a trained network. Without a bias it is a layer scale.

    Args:
        num_features: size of the last dimension.
        bias: whether there is a shift.
        init: of every weight.
        device: of the parameters.
        dtype: of the parameters.
    """

    def __init__(
        self,
        num_features: int,
        bias: bool = True,
        init: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((num_features,), init, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(num_features, device=device, dtype=dtype)) if bias else None

    def forward(self, x: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch features"]:
        """The same shape."""
        return x * self.weight if self.bias is None else torch.addcmul(self.bias, self.weight, x)

    def extra_repr(self) -> str:
        """Size."""
        return f"{len(self.weight)}, bias={self.bias is not None}"
