"""Mean and variance of values on their way through the linear parts of a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, conv2d, linear


@dataclass(frozen=True)
class Moments:
    """A value of the network: certain, or spread around its mean.

    Args:
        mean: ``[batch, ...]``.
        variance: of every entry; None where the value is certain. Entries count as independent.
        covariance: makes ``[batch, k, k]``, where a linear layer of k outputs has just been passed.
        stage: how many layers of states were enumerated on the way.
    """

    mean: Tensor
    variance: Tensor | None = None
    covariance: Callable[[], Tensor] | None = None
    stage: int = 0

    def through(self, function: Callable[[Tensor], Tensor]) -> Moments:
        """Both moments re-arranged or averaged with equal weights by a function that is linear."""
        return Moments(function(self.mean), self._spread(function), stage=self.stage)

    def _spread(self, function: Callable[[Tensor], Tensor]) -> Tensor | None:
        return None if self.variance is None else function(self.variance)


def through_linear(layer: nn.Linear, x: Moments) -> Moments:
    """A product with a matrix: variances go through its squared entries."""
    if x.variance is None:
        return replace(x, mean=layer(x.mean), covariance=None)
    variance, weight = x.variance, layer.weight

    def covariance() -> Tensor:
        return torch.einsum("...j,kj,lj->...kl", variance, weight, weight)

    return Moments(layer(x.mean), linear(variance, weight.square()), covariance, x.stage)


def through_convolution(layer: nn.Conv1d | nn.Conv2d, x: Moments) -> Moments:
    """A product with a sparse matrix of shared weights."""
    if x.variance is None:
        return Moments(layer(x.mean), stage=x.stage)
    if layer.padding_mode != "zeros":
        raise ValueError(f"convolutions with {layer.padding_mode} padding cannot be collapsed")
    product: Any = conv2d if isinstance(layer, nn.Conv2d) else conv1d
    spread = product(
        x.variance, layer.weight.square(), None, layer.stride, layer.padding, layer.dilation, layer.groups
    )  # fmt: skip
    return Moments(layer(x.mean), spread, stage=x.stage)


def through_normalisation(layer: nn.Module, x: Moments) -> Moments:
    """Batch normalisation with its running statistics: an affine map of every channel."""
    if layer.training or layer.running_var is None:
        raise ValueError("batch normalisation depends on the whole batch in training: freeze it with .eval()")
    scale = (layer.running_var + layer.eps).rsqrt()  # type: ignore[operator]
    scale = scale if layer.weight is None else scale * layer.weight  # type: ignore[operator]
    shape = (1, -1, *[1] * (x.mean.dim() - 2))
    return Moments(layer(x.mean), x._spread(lambda v: v * scale.square().reshape(shape)), stage=x.stage)


def through_average(layer: nn.Module, x: Moments) -> Moments:
    """Average pooling of independent entries: the variance of a mean of n is a mean of variances over n."""
    mean = layer(x.mean)
    if x.variance is None:
        return Moments(mean, stage=x.stage)
    if isinstance(layer, nn.AvgPool2d):
        size = layer.kernel_size
        count = size * size if isinstance(size, int) else size[0] * size[1]
    else:
        count = x.mean[0, 0].numel() // max(1, mean[0, 0].numel())
    return Moments(mean, layer(x.variance) / count, stage=x.stage)


def through_maximum(layer: nn.Module, x: Moments) -> Moments:
    """Max pooling: of spread values it takes the one with the largest mean, which is not exact."""
    if x.variance is None:
        return Moments(layer(x.mean), stage=x.stage)
    options: Any = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode)
    mean, place = nn.functional.max_pool2d(x.mean, *options, return_indices=True)
    spread = x.variance.flatten(2).gather(2, place.flatten(2)).view_as(mean)
    return Moments(mean, spread, stage=x.stage)


def through_dropout(layer: nn.Dropout, x: Moments) -> Moments:
    """An auxiliary coin on every unit, integrated out: the mean stays, the coin's variance is added."""
    if layer.p == 0:
        return x
    keep = 1 - layer.p
    own = x.mean.square() * (1 - keep) / keep
    return Moments(x.mean, own if x.variance is None else own + x.variance / keep, stage=x.stage)


def added(first: Moments, second: Moments) -> Moments:
    """A sum of parents: variances add, as if they had no common cause (a residual path has one)."""
    spreads = [m.variance for m in (first, second) if m.variance is not None]
    total = None if not spreads else spreads[0] if len(spreads) == 1 else spreads[0] + spreads[1]
    return Moments(first.mean + second.mean, total, stage=_same_stage([first, second]))


def joined(parts: list[Moments], dim: int) -> Moments:
    """A layer made of several."""
    spread = None
    if any(part.variance is not None for part in parts):
        spread = torch.cat(
            [torch.zeros_like(p.mean) if p.variance is None else p.variance for p in parts], dim
        )  # fmt: skip
    return Moments(torch.cat([p.mean for p in parts], dim), spread, stage=_same_stage(parts))


def _same_stage(parts: list[Moments]) -> int:
    """Rows that are states of one layer cannot be put beside rows that are states of another."""
    stages = {part.stage for part in parts}
    if len(stages) > 1:
        raise ValueError("exact inference is for chains: here a layer has a parent before the last one")
    return stages.pop()


LINEAR: dict[type[nn.Module], Callable[[Any, Moments], Moments]] = {
    nn.Linear: through_linear,
    nn.Conv1d: through_convolution,
    nn.Conv2d: through_convolution,
    nn.BatchNorm1d: through_normalisation,
    nn.BatchNorm2d: through_normalisation,
    nn.AvgPool2d: through_average,
    nn.AdaptiveAvgPool2d: through_average,
    nn.MaxPool2d: through_maximum,
    nn.Flatten: lambda layer, x: x.through(layer),
    nn.Unflatten: lambda layer, x: x.through(layer),
    nn.Identity: lambda layer, x: x,
}
"""Modules between two layers of random variables, and what they make of moments."""
