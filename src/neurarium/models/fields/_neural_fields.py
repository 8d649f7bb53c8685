"""Neural fields: networks from coordinates to a signal's values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.layers import Sine


class SirenField(nn.Sequential):
    """Layers sin(w0 (W x + b)) and a linear one (Sitzmann et al., 2020), as in Learned Initializations (2020).

    The first weights are drawn from U(-1/in, 1/in), all others from U(-c, c) with c = sqrt(6 / in) / w0, so that what
    enters each sine keeps its spread; biases begin at zero.

    Args:
        in_features: coordinates of a point.
        out_features: values at a point.
        width: units of each hidden layer.
        depth: linear layers, the last included.
        w0: frequency. The finer the grid, the larger: 200 for images of 178 pixels in [0, 1), 30 for small ones.
        offset: added to the output: the middle of the values' range.

    Raises:
        ValueError: ``depth`` is below 2.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        width: int = 256,
        depth: int = 5,
        w0: float = 200.0,
        offset: float = 0.5,
    ) -> None:
        if depth < 2:
            raise ValueError(f"depth must be at least 2, not {depth}")
        sizes = [in_features, *[width] * (depth - 1), out_features]
        linears = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
        super().__init__(*(part for linear in linears[:-1] for part in (linear, Sine(w0))), linears[-1])
        self.offset = offset
        for n, linear in enumerate(linears):
            bound = 1 / linear.in_features if n == 0 else math.sqrt(6 / linear.in_features) / w0
            nn.init.uniform_(linear.weight, -bound, bound)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """Values at the points."""
        return super().forward(x) + self.offset


class FourierFeatureField(nn.Module):
    """sin(B x) and cos(B x) of random frequencies B, then a perceptron (Tancik et al., 2020).

    Args:
        in_features: coordinates of a point.
        out_features: values at a point.
        features: random frequencies; each gives a sine and a cosine.
        scale: standard deviation of the frequencies, in radians per unit of a coordinate: what can be fitted at once,
            and what lies between observed points.
        width: units of each hidden layer.
        depth: hidden layers.
        sigmoid: values in [0, 1].
        generator: draws the frequencies.
    """

    frequencies: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        features: int = 256,
        scale: float = 30.0,
        width: int = 256,
        depth: int = 4,
        sigmoid: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("frequencies", scale * torch.randn(in_features, features, generator=generator))
        self.layers = perceptron([2 * features, *[width] * depth, out_features])
        self.sigmoid = sigmoid

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """Values at the points."""
        phase = x @ self.frequencies
        values = self.layers(torch.cat((phase.sin(), phase.cos()), -1))
        return values.sigmoid() if self.sigmoid else values


class TinyNeRF(nn.Module):
    """A small radiance field: position to colour in [0, 1] and density, the same from every side.

    Args:
        frequencies: of the encoding, evenly spaced in log from 2^0 to 2^``octaves``; each gives a sine and a cosine
            of each coordinate.
        octaves: of the encoding.
        width: units of each hidden layer.
        depth: hidden layers.
    """

    scales: Tensor

    def __init__(self, frequencies: int = 20, octaves: float = 8.0, width: int = 256, depth: int = 5) -> None:
        super().__init__()
        self.register_buffer("scales", 2 ** torch.linspace(0, octaves, frequencies))
        self.layers = perceptron([6 * frequencies, *[width] * depth, 4])

    def forward(self, x: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 4"]:
        """Red, green, blue and density, for `VolumeRendering`."""
        phase = (x[..., None] * self.scales).flatten(-2)
        values = self.layers(torch.cat((phase.sin(), phase.cos()), -1))
        return torch.cat((values[..., :3].sigmoid(), values[..., 3:].relu()), -1)


def perceptron(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers with ReLUs between them."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
