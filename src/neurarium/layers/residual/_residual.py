"""Residual blocks that tell their two paths apart: the cheap one past the branch, and the branch.

A block computes ``merge(x, branch(x))``. Where z = branch(x) is held fixed, ∂merge/∂x is cheap (the identity, a
diagonal, a permutation): `carry` gives it. Highway backpropagation sends gradients along it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Carry = float | Tensor | Callable[[Tensor], Tensor]
"""∂merge/∂x at fixed z: a number times the identity, a diagonal of the shape of x, or any function ``w -> w K`` of a
gradient with respect to the output."""


@runtime_checkable
class ResidualBlock(Protocol):
    """What `neurarium.learning.HighwayBackprop` looks for in a network."""

    branch: Callable[..., Any]
    """``branch(x) -> z``: all that is expensive. A method or a submodule."""

    def merge(self, x: Tensor, z: Any) -> Tensor:
        """The block's output."""

    def carry(self, x: Tensor, z: Any) -> Carry:
        """∂merge/∂x at fixed z, without a graph."""


class _Residual(nn.Module):
    """A block that runs as ``merge(x, branch(x))``."""

    branch: Callable[..., Any]
    merge: Callable[[Tensor, Any], Tensor]

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The block's output; further arguments go to the branch."""
        return self.merge(x, self.branch(x, *args, **kwargs))


class Residual(_Residual):
    """``x + branch(x)``, or ``relu(x + branch(x))``.

    Args:
        branch: a module that keeps the shape of its input; put normalisation at its beginning for pre-norm.
        relu: a ReLU after the sum, as in the first residual networks.

    Raises:
        ValueError: in the forward pass, if the branch changes the shape.
    """

    def __init__(self, branch: nn.Module, relu: bool = False) -> None:
        super().__init__()
        self.branch = branch
        self.relu = relu

    def merge(self, x: Float[Tensor, "*shape"], z: Tensor) -> Float[Tensor, "*shape"]:
        """``x + z``, or its positive part."""
        if z.shape != x.shape:
            raise ValueError(f"branch maps {tuple(x.shape)} to {tuple(z.shape)}: a residual branch must keep the shape")
        return F.relu(x + z) if self.relu else x + z

    def carry(self, x: Float[Tensor, "*shape"], z: Tensor) -> float | Tensor:
        """1, or the mask of the positive sums."""
        return (x + z > 0).to(x.dtype) if self.relu else 1.0


class PostNormResidual(_Residual):
    """``LayerNorm(x + module(x))``, the block of the first transformers.

    Written as a(x) x + b(x) with a = weight / σ, b = (module(x) − μ) a + bias, μ and σ the mean and deviation of the
    sum: at fixed a and b the path past the module is the diagonal a.

    Args:
        module: keeps the shape of its input.
        d_model: size of the last dimension.
        eps: added to the variance.
    """

    def __init__(self, module: nn.Module, d_model: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.module = module
        self.norm = nn.LayerNorm(d_model, eps)

    def branch(self, x: Float[Tensor, "*batch d_model"], *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """a and b."""
        change = self.module(x, *args, **kwargs)
        variance, mean = torch.var_mean(x + change, -1, correction=0, keepdim=True)
        a = self.norm.weight * (variance + self.norm.eps).rsqrt()
        return a, (change - mean) * a + self.norm.bias

    def merge(self, x: Float[Tensor, "*batch d_model"], z: tuple[Tensor, Tensor]) -> Float[Tensor, "*batch d_model"]:
        """``a x + b``."""
        return torch.addcmul(z[1], z[0], x)

    def carry(self, x: Float[Tensor, "*batch d_model"], z: tuple[Tensor, Tensor]) -> Tensor:
        """a."""
        return z[0].detach()


class SpaceToDepthStage(_Residual):
    """A downsampling block with a residual path: pixels move into channels, then ``x + branch``.

    The first block of a stage in an ordinary ResNet strides and changes the width, so that nothing passes it unchanged.
    Here images [batch, channels, height, width] become [batch, 4 channels, height / 2, width / 2] by a permutation, as
    in i-RevNet, and the path past the module is that permutation.

    Args:
        in_channels: channels before.
        module: maps [batch, 4 in_channels, height / 2, width / 2] to the same shape; by default two pre-activated
            3 x 3 convolutions.
        factor: how many times smaller the sides become; channels grow by its square.
    """

    def __init__(self, in_channels: int, module: nn.Module | None = None, factor: int = 2) -> None:
        super().__init__()
        channels = in_channels * factor**2
        if module is None:
            module = nn.Sequential(
                nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            )  # fmt: skip
        self.module = module
        self.factor = factor

    def branch(self, x: Float[Tensor, "batch channels height width"]) -> Tensor:
        """The module on the smaller image."""
        change: Tensor = self.module(F.pixel_unshuffle(x, self.factor))
        return change

    def merge(self, x: Float[Tensor, "batch channels height width"], z: Tensor) -> Tensor:
        """The smaller image plus the change."""
        return F.pixel_unshuffle(x, self.factor) + z

    def carry(self, x: Float[Tensor, "batch channels height width"], z: Tensor) -> Callable[[Tensor], Tensor]:
        """Back to the larger image."""
        return lambda w: F.pixel_shuffle(w, self.factor)
