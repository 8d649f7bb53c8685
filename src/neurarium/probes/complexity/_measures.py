"""Three measures of how complex a function on a grid is, and one for functions of bits."""

from __future__ import annotations

import functools
import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from neurarium.data import relative_lempel_ziv

Window = Literal["hann", "mirror"]


def spectrum(values: Float[Tensor, "rows columns"], window: Window | None = None) -> Float[Tensor, " bins"]:
    """Summed magnitudes of the Fourier transform by distance from the centre, the constant left out.

    Args:
        values: a square grid.
        window: "hann" fades the edges out; "mirror" continues the function evenly. Neither: what does not fit together
            at the edges adds frequencies of its own.
    """
    if window == "hann":
        fade = torch.hann_window(len(values), periodic=False, dtype=values.dtype)
        values = (values - values.mean()) * fade[:, None] * fade
    elif window == "mirror":
        values = torch.cat([values, values.flip(0)])
        values = torch.cat([values, values.flip(1)], 1)
    size = len(values)
    magnitude = torch.fft.fft2(values).abs()
    magnitude[0, 0] = 0
    bins = _radii(size)
    return torch.zeros(int(bins.max()) + 1, dtype=magnitude.dtype).index_add_(0, bins.flatten(), magnitude.flatten())


def mean_frequency(values: Float[Tensor, "rows columns"], window: Window | None = None) -> float:
    """Mean distance from the centre of the Fourier plane, over the largest there is; NaN for a constant."""
    spread = float(values.max() - values.min())
    if not spread > 1e-12 * float(values.abs().max()):
        return math.nan
    sums = spectrum(values, window)
    size = 2 * len(values) if window == "mirror" else len(values)
    most = round(math.sqrt(2) * size / 2)
    return float((torch.arange(len(sums), dtype=sums.dtype) * sums).sum() / (most * sums.sum()))


@functools.lru_cache(maxsize=16)
def _radii(size: int) -> Tensor:
    line = torch.arange(size)
    line = torch.minimum(line, size - line).double()
    return torch.round((line[:, None] ** 2 + line**2).sqrt()).long()


def chebyshev_coefficients(values: Float[Tensor, "rows columns"], degree: int = 12) -> Float[Tensor, "degrees degrees"]:
    """Least-squares coefficients of products of Chebyshev polynomials on a grid over [-1, 1]^2, ends included."""
    inverse = _inverse(len(values), degree)
    return inverse @ values.double() @ inverse.T


@functools.lru_cache(maxsize=16)
def _inverse(size: int, degree: int) -> Tensor:
    x = torch.linspace(-1, 1, size, dtype=torch.float64)
    table = torch.cos(torch.arange(degree + 1) * torch.arccos(x)[:, None])
    return torch.linalg.pinv(table)


def mean_degree(values: Float[Tensor, "rows columns"], degree: int = 12) -> float:
    """Mean total degree of the Chebyshev coefficients by magnitude, over the largest; NaN for a constant."""
    if not float(values.max() - values.min()) > 1e-12 * float(values.abs().max()):
        return math.nan
    size = chebyshev_coefficients(values, degree).abs()
    size[0, 0] = 0
    order = torch.arange(degree + 1, dtype=size.dtype)
    return float((size * (order[:, None] + order)).sum() / (2 * degree * size.sum()))


def compressed(values: Float[Tensor, "rows columns"]) -> float:
    """Phrases of Lempel and Ziv in the grid, cut at its median and read row by row, over those of coin flips."""
    return relative_lempel_ziv((values > values.median()).flatten())


def walsh_degree(values: Float[Tensor, " points"]) -> float:
    """Mean degree of the Walsh coefficients by magnitude, over the number of bits; NaN for a constant.

    Args:
        values: a function of d bits at all 2^d of them, in the order of the numbers that they write.
    """
    bits = len(values).bit_length() - 1
    found = values.double()
    for axis in range(bits):  # the fast transform: sums and differences, a bit at a time
        pairs = found.reshape(-1, 2, 2**axis)
        found = torch.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], 1).flatten()
    found = found.abs()
    found[0] = 0
    if not float(found.max()) > 1e-12 * float(values.abs().max()) * len(values):
        return math.nan
    order = torch.tensor([bin(k).count("1") for k in range(len(values))], dtype=found.dtype)
    return float((found * order).sum() / (bits * found.sum()))
