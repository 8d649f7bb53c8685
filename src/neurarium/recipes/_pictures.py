"""Inputs as images, for recipes whose own network needs rows and columns."""

from __future__ import annotations

import math

from torch import Tensor, nn


def image_reader(x: Tensor) -> tuple[nn.Module, tuple[int, int, int]]:
    """A layer that gives images [batch, channels, height, width], and these three sizes.

    Args:
        x: images with or without channels, or as vectors of a square of one or three channels.

    Raises:
        ValueError: vectors that are no such square.
    """
    shape = tuple(x.shape[1:])
    if len(shape) == 3:
        return nn.Identity(), (shape[0], shape[1], shape[2])
    if len(shape) == 2:
        return nn.Unflatten(1, (1, shape[0])), (1, shape[0], shape[1])
    for channels in (1, 3):
        side = math.isqrt(x[0].numel() // channels)
        if channels * side**2 == x[0].numel():
            return nn.Unflatten(1, (channels, side, side)), (channels, side, side)
    raise ValueError(f"needs images, and vectors of {x[0].numel()} values are no square of one or three channels")
