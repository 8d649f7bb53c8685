"""The layers that ready-made autoencoders are built of."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neurarium.layers import KANConv2d, KANLinear

Place = Literal["input", "hidden", "code"]
"""What a layer reads."""
Layer = Callable[[int, int, Place], list[nn.Module]]
"""``layer(inputs, outputs, place)``."""
Pair = tuple[nn.Module, nn.Module]
NORMED = (-2.0, 2.0)
"""Range of a grid behind a normalisation."""


def stack(widths: Sequence[int], layer: Layer, place: Place) -> list[nn.Module]:
    """Layers from width to width, the first at ``place``."""
    pairs = list(itertools.pairwise(widths))
    return [module for i, (a, b) in enumerate(pairs) for module in layer(a, b, "hidden" if i else place)]


def kan_layer(grid_size: int, degree: int, grid_range: tuple[float, float], norm: bool) -> Layer:
    """Kolmogorov-Arnold layers; where ``norm``, hidden values are normalised and codes squeezed onto the grid."""

    def layer(inputs: int, outputs: int, place: Place) -> list[nn.Module]:
        if not norm or place == "input":
            return [KANLinear(inputs, outputs, grid_size=grid_size, degree=degree, grid_range=grid_range)]
        if place == "hidden":
            return [nn.LayerNorm(inputs), KANLinear(inputs, outputs, "bspline", grid_size, degree, NORMED)]
        # no LayerNorm for codes: it takes two numbers from them, which is all of a small one
        return [nn.Tanh(), KANLinear(inputs, outputs, "bspline", grid_size, degree)]

    return layer


def mlp_layer(inputs: int, outputs: int, place: Place) -> list[nn.Module]:
    """A linear layer, behind an activation where it reads hidden values."""
    return [nn.SiLU(), nn.Linear(inputs, outputs)] if place == "hidden" else [nn.Linear(inputs, outputs)]


def halved(shape: Sequence[int], times: int) -> list[tuple[int, ...]]:
    """Sides before the first and behind each convolution of stride 2, kernel 3 and padding 1."""
    sides = [tuple(shape)]
    for _ in range(times):
        sides.append(tuple((side + 1) // 2 for side in sides[-1]))
    return sides


def conv_pair(shape: tuple[int, ...], latent: int, channels: Sequence[int], output: nn.Module) -> Pair:
    """Convolutions to a code and back, over a line or a plane."""
    if len(shape) not in (2, 3):
        raise ValueError(f"shape must be [channels, length] or [channels, height, width], not {list(shape)}")
    down: Any
    up: Any
    down, up = (nn.Conv1d, nn.ConvTranspose1d) if len(shape) == 2 else (nn.Conv2d, nn.ConvTranspose2d)
    maps, sides = [shape[0], *channels], halved(shape[1:], len(channels))
    deepest = (maps[-1], *sides[-1])
    encoder: list[nn.Module] = []
    decoder: list[nn.Module] = [nn.Linear(latent, math.prod(deepest)), nn.Unflatten(1, deepest)]
    for a, b in itertools.pairwise(maps):
        encoder += [down(a, b, 3, stride=2, padding=1), nn.ReLU()]
    for i in reversed(range(len(channels))):
        extra = tuple(large - (2 * small - 1) for large, small in zip(sides[i], sides[i + 1], strict=True))
        decoder += [nn.ReLU(), up(maps[i + 1], maps[i], 3, stride=2, padding=1, output_padding=extra)]
    encoder += [nn.Flatten(), nn.Linear(math.prod(deepest), latent)]
    return nn.Sequential(*encoder), nn.Sequential(*decoder, output)


def kan_conv_pair(
    shape: tuple[int, ...], latent: int, channels: Sequence[int], grid_size: int, degree: int, output: nn.Module
) -> Pair:
    """Kolmogorov-Arnold convolutions to a code and back."""
    if len(shape) != 3:
        raise ValueError(f"shape must be [channels, height, width], not {list(shape)}")
    maps, sides = [shape[0], *channels], halved(shape[1:], len(channels))
    deepest = (maps[-1], *sides[-1])

    def convolution(inputs: int, outputs: int, stride: int, first: bool) -> KANConv2d:
        ends = (-1.0, 1.0) if first else NORMED
        return KANConv2d(inputs, outputs, 3, stride, 1, grid_size=grid_size, degree=degree, grid_range=ends)

    encoder: list[nn.Module] = []
    for i, (a, b) in enumerate(itertools.pairwise(maps)):
        encoder += [convolution(a, b, 2, i == 0), nn.GroupNorm(1, b)]
    grid: dict[str, Any] = {"grid_size": grid_size, "degree": degree}
    size = math.prod(deepest)
    encoder += [nn.Flatten(), KANLinear(size, latent, grid_range=NORMED, **grid)]
    decoder: list[nn.Module] = [nn.Tanh(), KANLinear(latent, size, **grid), nn.Unflatten(1, deepest)]
    for i in reversed(range(len(channels))):
        finer = [convolution(maps[i + 1], 4 * maps[i], 1, False), nn.PixelShuffle(2), _Cut(sides[i])]
        decoder += [nn.GroupNorm(1, maps[i + 1]), *finer]
    return nn.Sequential(*encoder), nn.Sequential(*decoder, output)


class _Cut(nn.Module):
    """The upper left corner of images."""

    def __init__(self, sides: Sequence[int]) -> None:
        super().__init__()
        self.sides = tuple(sides)

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : self.sides[0], : self.sides[1]]


@torch.no_grad()
def pca_pair(x: Tensor, latent: int) -> Pair:
    """Linear maps onto the principal components and back."""
    exact = torch.float32 if x.device.type == "mps" else torch.float64
    rows = x.flatten(1).to(exact)
    mean = rows.mean(0)
    centred, size = rows - mean, rows.shape[1]
    if len(rows) < size:  # from the smaller of the two squares, whose eigenvectors are the other's
        weights = torch.linalg.eigh(centred @ centred.t()).eigenvectors[:, -latent:].flip(1)
        axes = torch.linalg.qr(centred.t() @ weights).Q.t()
    else:
        axes = torch.linalg.eigh(centred.t() @ centred).eigenvectors[:, -latent:].flip(1).t()
    where: dict[str, Any] = {"device": x.device, "dtype": x.dtype}
    encoder, decoder = nn.Linear(size, latent, **where), nn.Linear(latent, size, **where)
    encoder.weight.copy_(axes)
    encoder.bias.copy_(-(axes @ mean))
    decoder.weight.copy_(axes.t())
    decoder.bias.copy_(mean)
    return nn.Sequential(nn.Flatten(), encoder), nn.Sequential(decoder, nn.Unflatten(1, tuple(x.shape[1:])))
