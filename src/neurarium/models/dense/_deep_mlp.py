"""A very deep fully connected network in the block forms that ReZero is compared with."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint_sequential

from neurarium.layers import PostNormResidual, Residual, ReZero

BLOCKS = ("plain", "residual", "post-norm", "pre-norm", "highway", "rezero")


class Highway(nn.Module):
    """``t * branch(x) + (1 - t) * x`` with the learned gate ``t = sigmoid(W x + b)`` (Srivastava et al., 2015).

    Args:
        branch: a module that keeps the shape of its input.
        features: size of the last dimension.
        bias: the gate's bias at the start; negative, so that the block starts close to the identity.
    """

    def __init__(self, branch: nn.Module, features: int, bias: float = -3.0) -> None:
        super().__init__()
        self.branch = branch
        self.gate = nn.Linear(features, features)
        nn.init.constant_(self.gate.bias, bias)

    def forward(self, x: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch features"]:
        """The block's output, of the shape of ``x``."""
        return x + torch.sigmoid(self.gate(x)) * (self.branch(x) - x)


class DeepMlp(nn.Module):
    """A linear inlet, ``depth`` blocks around ``ReLU(W x + b)`` of equal width, a linear outlet.

    All forms draw the same weights from the same generator state, in the same order, so that networks built at one seed
    differ in the block only: variance ``2 / width`` in the blocks (section 4), torch's default elsewhere, zero biases.
    The blocks are an `nn.Sequential`, so learning rules and probes find them.

    Args:
        in_features: size of an example.
        out_features: size of the output.
        width: features between the blocks.
        depth: number of blocks.
        block: "plain" F(x), "residual" x + F(x), "post-norm" Norm(x + F(x)), "pre-norm" x + F(Norm(x)) with one more
            norm before the outlet, "highway", or "rezero" x + alpha F(x) with alpha = 0 at the start.
        checkpoint_segments: recompute activations inside this many segments of the stack in the backward pass instead
            of keeping them (about sqrt(depth) needs least memory); 0 keeps all.

    Raises:
        ValueError: a size is below 1, ``block`` is unknown, or there are more segments than blocks.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        width: int = 256,
        depth: int = 32,
        block: str = "rezero",
        checkpoint_segments: int = 0,
    ) -> None:
        super().__init__()
        if min(in_features, out_features, width, depth) < 1:
            raise ValueError("in_features, out_features, width and depth must be at least 1")
        if block not in BLOCKS:
            raise ValueError(f"block must be one of {', '.join(BLOCKS)}, not {block!r}")
        if not 0 <= checkpoint_segments <= depth:
            raise ValueError(f"checkpoint_segments must be between 0 and depth = {depth}, not {checkpoint_segments}")
        self.checkpoint_segments = checkpoint_segments
        self.inlet = nn.Linear(in_features, width)
        linears = [nn.Linear(width, width) for _ in range(depth)]
        self.outlet = nn.Linear(width, out_features)
        for linear in linears:
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            nn.init.zeros_(linear.bias)
        # Whatever a form adds (norms, gates, scalars) comes after the shared draws.
        self.blocks = nn.Sequential(*(_block(block, linear) for linear in linears))
        self.norm = nn.LayerNorm(width) if block == "pre-norm" else nn.Identity()

    def forward(self, x: Float[Tensor, "batch in_features"]) -> Float[Tensor, "batch out_features"]:
        """Outputs for a batch of vectors."""
        x = self.inlet(x)
        if self.checkpoint_segments and torch.is_grad_enabled():
            x = checkpoint_sequential(self.blocks, self.checkpoint_segments, x, use_reentrant=False)
        else:
            x = self.blocks(x)
        return self.outlet(self.norm(x))


def _block(block: str, linear: nn.Linear) -> nn.Module:
    width = linear.out_features
    branch = nn.Sequential(linear, nn.ReLU())
    match block:
        case "plain":
            return branch
        case "residual":
            return Residual(branch)
        case "post-norm":
            return PostNormResidual(branch, width)
        case "pre-norm":
            return Residual(nn.Sequential(nn.LayerNorm(width), branch))
        case "highway":
            return Highway(branch, width)
        case _:
            return ReZero(branch)
