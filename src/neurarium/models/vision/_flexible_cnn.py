"""A convolutional network from its name, all of it parameters (Cireşan et al., 2011)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import nn

from neurarium.layers.activations._scaled_tanh import ScaledTanh
from neurarium.layers.convolution._skipping_conv import SkippingConv2d, valid_size

T = TypeVar("T")


class FlexibleCNN(nn.Sequential):
    """Convolutions with so many maps, pooling, hidden layers, one output a class: "20M-60M-100M-150N".

    A convolutional stage is a `SkippingConv2d`, an activation and max pooling of rectangles that do not overlap (a rest
    is left out; 1 for none); a hidden layer is linear with an activation. All weights and biases start uniform within
    .05. The outputs are logits.

    Args:
        name: numbers of maps, each with an M, then numbers of hidden units, each with an N.
        in_channels: of the images.
        image_size: height and width.
        num_classes: outputs.
        kernels: kernel of each convolution, or of all.
        pools: pooling of each, or of all.
        skips: pixels skipped by each, or by all.
        connections: how many maps below each map reads, for each convolution or all; None for all of them. A number
            above what there is stands for all.
        activation: makes the activations.
        generator: of the weights and the random tables.

    Raises:
        ValueError: a name of another form, lists of another length, or a layer that would have no pixel left.
    """

    def __init__(
        self,
        name: str,
        in_channels: int,
        image_size: int | tuple[int, int],
        num_classes: int,
        kernels: int | Sequence[int],
        pools: int | Sequence[int] = 1,
        skips: int | Sequence[int] = 0,
        connections: int | Sequence[int | None] | None = None,
        activation: Callable[[], nn.Module] = ScaledTanh,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not re.fullmatch(r"\d+M(-\d+M)*(-\d+N)*", name):
            raise ValueError(f"name must be like '20M-60M-150N' (maps, then hidden units), not {name!r}")
        parts = name.split("-")
        maps = [int(part[:-1]) for part in parts if part.endswith("M")]
        hidden = [int(part[:-1]) for part in parts if part.endswith("N")]
        every = [_each(len(maps), what, v) for what, v in (("kernels", kernels), ("pools", pools), ("skips", skips))]
        tables = _each(len(maps), "connections", connections)
        size = (image_size, image_size) if isinstance(image_size, int) else image_size
        before = in_channels
        for index, (after, kernel, pool, skip, table) in enumerate(zip(maps, *every, tables, strict=True), start=1):
            size = valid_size(size, (kernel, kernel), (skip, skip), f"convolution {index} of {name}")
            table = None if table is None or table >= before else table
            self.append(SkippingConv2d(before, after, kernel, skip, table, generator=generator))
            self.append(activation())
            if pool > 1:
                size = valid_size(size, (pool, pool), (pool - 1, pool - 1), f"pooling {index} of {name}")
                self.append(nn.MaxPool2d(pool))
            before = after
        self.append(nn.Flatten())
        width = before * size[0] * size[1]
        for units in hidden:
            self.append(nn.Linear(width, units))
            self.append(activation())
            width = units
        self.append(nn.Linear(width, num_classes))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-0.05, 0.05, generator=generator)


def _each(count: int, what: str, value: T | Sequence[T]) -> list[T]:
    """A value for every convolution."""
    if not isinstance(value, Sequence):
        return [value] * count
    if len(value) != count:
        raise ValueError(f"{what} must be one for each of the {count} convolutions, not {len(value)}")
    return list(value)
