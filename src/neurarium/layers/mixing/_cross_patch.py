"""A linear layer across patches, the same for every channel."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class CrossPatch(nn.Module):
    """``y[i, c] = Σ_j weight[i, j] x[j, c] + bias[i]`` (Touvron et al., 2021, equation 1).

    Shorter sequences use the leading part of the matrix.

    Args:
        num_patches: patches, or the most steps of a sequence.
        causal: position i reads positions up to i; entries above the diagonal are not used and get no gradient.
        bias: whether there is one.
        device: of the parameters.
        dtype: of the parameters.

    Attributes:
        scale, shift: [channels] and [patches, channels], applied to the result; None until `fold_affine` fills them.
    """

    def __init__(
        self,
        num_patches: int,
        causal: bool = False,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.weight = nn.Parameter(torch.empty(num_patches, num_patches, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(num_patches, device=device, dtype=dtype)) if bias else None
        self.scale: nn.Parameter | None
        self.shift: nn.Parameter | None
        self.register_parameter("scale", None)
        self.register_parameter("shift", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As torch's linear layers; the bias zero."""
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def matrix(self, patches: int) -> Float[Tensor, "patches patches"]:
        """What the first ``patches`` patches are multiplied with."""
        weight = self.weight[:patches, :patches]
        return weight.tril() if self.causal else weight

    def forward(self, x: Float[Tensor, "batch patches channels"]) -> Float[Tensor, "batch patches channels"]:
        """Mixed patches.

        Raises:
            ValueError: more patches than the layer was made for.
        """
        patches = x.shape[1]
        if patches > len(self.weight):
            raise ValueError(f"the layer is for at most {len(self.weight)} patches, not {patches}")
        matrix = self.matrix(patches).expand(len(x), -1, -1)
        if self.bias is None:
            mixed = torch.bmm(matrix, x)
        else:
            mixed = torch.baddbmm(self.bias[:patches, None], matrix, x)
        if self.scale is None or self.shift is None:
            return mixed
        return torch.addcmul(self.shift[:patches], self.scale, mixed)

    def extra_repr(self) -> str:
        """Size."""
        return f"{len(self.weight)}, causal={self.causal}, bias={self.bias is not None}"


class TokenMean(nn.Module):
    """The mean over tokens: [batch, tokens, channels] to [batch, channels]."""

    def forward(self, x: Float[Tensor, "batch tokens channels"]) -> Float[Tensor, "batch channels"]:
        """One vector per example."""
        return x.mean(1)
