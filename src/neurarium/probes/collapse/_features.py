"""Features with labels, from a network and its loader or as a tensor: how the probes of this family take them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.objectives import HeadInput, Taps
from neurarium.training import call, evaluation, unpack


@torch.no_grad()
def feature_batches(
    model_or_features: nn.Module | Tensor, data: Iterable[Any] | Tensor, layer: str | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Features [batch, features] and labels [batch], batch by batch; a model runs in evaluation mode.

    Args:
        model_or_features: a network, or features [examples, features].
        data: the network's loader, or the labels [examples] of the features.
        layer: what is a feature: by default what enters the linear layer that is used last; otherwise the output of
            the submodule of this name, ``""`` for the model's own.

    Raises:
        TypeError: a model with a tensor in the place of a loader.
        ValueError: shapes that do not fit, an unknown layer, or no example.
    """
    if isinstance(model_or_features, Tensor):
        if layer is not None or not isinstance(data, Tensor):
            raise ValueError("features go with a tensor of labels, and without layer")
        yield checked(model_or_features, data)
        return
    if isinstance(data, Tensor):
        raise TypeError("a model goes with a loader of batches (x, y), not with a tensor")
    model, seen = model_or_features, False
    taps = HeadInput(model) if layer is None else Taps(model, [layer])
    with evaluation(model), taps:
        for batch in data:
            x, y = unpack(batch)
            call(model, x)
            seen = True
            yield checked(taps.features if isinstance(taps, HeadInput) else taps.outputs[layer or ""], y)
    if not seen:
        raise ValueError("the loader gave no batches")


def checked(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors of a floating-point type with one whole number each, or a `ValueError`."""
    features = features.flatten(1) if features.dim() > 1 else features
    if features.dim() != 2 or labels.dim() != 1 or len(features) != len(labels):
        raise ValueError(
            f"features must be [examples, features] with labels [examples], not {list(features.shape)} with "
            f"{list(labels.shape)}"
        )
    if labels.is_floating_point():
        raise ValueError(f"labels must be whole numbers, one per class, not {labels.dtype}")
    return features, labels.to(features.device)


def precise(features: Tensor) -> Tensor:
    """In double precision, or single where the device has no other."""
    return features.detach().to(torch.float32 if features.device.type == "mps" else torch.float64)
