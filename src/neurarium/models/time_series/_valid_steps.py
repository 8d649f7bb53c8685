"""Series of unequal length in one batch: what lies behind a series' end must not be seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def valid_steps(
    x: Float[Tensor, "batch channels steps"], lengths: Int[Tensor, " batch"] | None
) -> Bool[Tensor, "batch steps"] | None:
    """Which steps belong to each series; None where all do.

    Raises:
        ValueError: a length that is not between 1 and the number of steps.
    """
    if lengths is None:
        return None
    steps = x.shape[2]
    if lengths.shape != x.shape[:1] or bool((lengths < 1).any()) or bool((lengths > steps).any()):
        raise ValueError(f"lengths must be one number between 1 and {steps} for each of the {len(x)} series")
    return torch.arange(steps, device=x.device) < lengths.to(x.device)[:, None]


def apply(layers: Iterable[nn.Module], x: Tensor, valid: Tensor | None) -> Tensor:
    """The layers one after the other; with ``valid`` a step behind the end is zero before each convolution.

    Batch normalisation takes its statistics over valid steps alone, so that padding changes nothing in training either.
    """
    for layer in layers:
        x = layer(x) if valid is None else _at_valid(layer, x, valid)
    return x


def _at_valid(layer: nn.Module, x: Tensor, valid: Tensor) -> Tensor:
    if isinstance(layer, (nn.ConstantPad1d, nn.Conv1d)):
        made: Tensor = layer(x)
        return made
    if not isinstance(layer, nn.modules.batchnorm._BatchNorm):
        return (layer(x) * valid[:, None]).to(x.dtype)
    rows = x.transpose(1, 2)
    normed = layer(rows[valid])
    return torch.zeros_like(rows, dtype=normed.dtype).masked_scatter(valid[:, :, None], normed).transpose(1, 2)


def mean_over_steps(x: Float[Tensor, "batch channels steps"], valid: Tensor | None) -> Float[Tensor, "batch channels"]:
    """The average of each channel over the valid steps."""
    return x.mean(2) if valid is None else x.sum(2) / valid.sum(1, keepdim=True).to(x.dtype)


def keras_norm(channels: int) -> nn.Module:
    """Batch normalisation with the constants of the authors' library."""
    return nn.BatchNorm1d(channels, eps=1e-3, momentum=0.01)


Norm = Callable[[int], nn.Module]
