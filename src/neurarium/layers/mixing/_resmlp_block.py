"""The block of ResMLP: patches are mixed, then channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.layers.mixing._affine import Affine
from neurarium.layers.mixing._cross_patch import CrossPatch
from neurarium.layers.residual._residual import Residual


class StochasticDepth(nn.Module):
    """Drops a whole branch for some examples in training and scales up the others (Huang et al., 2016).

    Args:
        p: probability of dropping.
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p must be in [0, 1), not {p}")
        self.p = p

    def forward(self, x: Float[Tensor, " batch *shape"]) -> Float[Tensor, " batch *shape"]:
        """The input itself in evaluation mode."""
        if not self.training or self.p == 0:
            return x
        kept = torch.rand((len(x),) + (1,) * (x.dim() - 1), device=x.device) >= self.p
        return x * (kept / (1 - self.p)).to(x.dtype)

    def extra_repr(self) -> str:
        """Probability."""
        return f"p={self.p}"


class ResMLPBlock(nn.Sequential):
    """Two residual branches: a linear layer across patches and a network of two layers across channels.

    Each branch begins with an affine map and ends with a scale per channel that is small at first.

    Args:
        d_model: channels.
        num_patches: patches.
        mlp_ratio: hidden units of the second branch over channels.
        init_scale: start of the scale behind each branch; the paper has .1 for 12 blocks, 1e-5 for 24, 1e-6 for 36.
        drop_path: probability with which a branch is dropped for an example in training.
        norm: makes what stands at the head of a branch for a number of channels.
        mixing: "linear", "none" for no branch across patches, or a function that makes another module for it.
        post: "scale" for the release's scale behind a branch, "affine" for the paper's, with a shift.
    """

    def __init__(
        self,
        d_model: int,
        num_patches: int,
        mlp_ratio: float = 4.0,
        init_scale: float = 0.1,
        drop_path: float = 0.0,
        norm: Callable[[int], nn.Module] = Affine,
        mixing: Literal["linear", "none"] | Callable[[], nn.Module] = "linear",
        post: Literal["scale", "affine"] = "scale",
    ) -> None:
        def branch(*layers: nn.Module) -> Residual:
            scale = Affine(d_model, bias=post == "affine", init=init_scale)
            return Residual(nn.Sequential(norm(d_model), *layers, scale, StochasticDepth(drop_path)))

        hidden = round(mlp_ratio * d_model)
        across = branch(nn.Linear(d_model, hidden), nn.GELU(), nn.Linear(hidden, d_model))
        if mixing == "none":
            super().__init__(across)
        elif mixing == "linear":
            super().__init__(branch(CrossPatch(num_patches)), across)
        elif callable(mixing):
            super().__init__(branch(mixing()), across)
        else:
            raise ValueError(f"mixing must be 'linear', 'none' or a function that makes a module, not {mixing!r}")

    def forward(self, x: Float[Tensor, "batch patches channels"]) -> Float[Tensor, "batch patches channels"]:
        """The same shape."""
        for branch in self:
            x = branch(x)
        return x
