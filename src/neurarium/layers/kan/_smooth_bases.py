"""Bases whose functions are the same for all inputs and reach everywhere."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from neurarium.layers.kan._basis import ALL, Basis

HAT = 2 / (math.sqrt(3) * math.pi**0.25)


class _Centred(Basis):
    """Copies of one bump, evenly spaced over a range.

    Args:
        size: number of copies, at least 2.
        grid_range: centres of the first and the last.
        width: of a copy; the spacing of the centres where it is None.

    Raises:
        ValueError: fewer than two copies, a reversed range, or a width that is not positive.
    """

    def __init__(
        self, size: int = 8, grid_range: tuple[float, float] = (-1.0, 1.0), width: float | None = None
    ) -> None:
        super().__init__()
        low, high = map(float, grid_range)
        if size < 2:
            raise ValueError(f"size must be at least 2, not {size}")
        if not low < high:
            raise ValueError(f"grid_range must be (low, high) with low < high, not {grid_range}")
        self.size, self.low, self.high = size, low, high
        self.width = (high - low) / (size - 1) if width is None else float(width)
        if self.width <= 0:
            raise ValueError(f"width must be positive, not {width}")

    def _offset(self, x: Tensor) -> Tensor:
        """Distance from each centre in widths, [inputs, size, batch]."""
        centres = torch.linspace(self.low, self.high, self.size, dtype=x.dtype, device=x.device)
        return (x[:, None] - centres[:, None]) / self.width


class RadialBasis(_Centred):
    """Gaussian bumps ``exp(-z²)`` at evenly spaced centres, ``z`` the distance in widths (FastKAN)."""

    def columns(self, x: Tensor, inputs: slice = ALL) -> Tensor:
        return torch.exp(-self._offset(x).square())

    def columns_and_slopes(self, x: Tensor, inputs: slice = ALL) -> tuple[Tensor, Tensor]:
        offset = self._offset(x)
        values = torch.exp(-offset.square())
        return values, values * offset * (-2 / self.width)


class SwitchBasis(_Centred):
    """Reflectional switches ``1 - tanh²(z)`` at evenly spaced centres, ``z`` the distance in widths (FasterKAN)."""

    def columns(self, x: Tensor, inputs: slice = ALL) -> Tensor:
        return 1 - self._offset(x).tanh().square()

    def columns_and_slopes(self, x: Tensor, inputs: slice = ALL) -> tuple[Tensor, Tensor]:
        tanh = self._offset(x).tanh()
        values = 1 - tanh.square()
        return values, values * tanh * (-2 / self.width)


class WaveletBasis(_Centred):
    """Mexican-hat wavelets ``2 / (√3 π^¼) (1 - z²) exp(-z²/2)`` at evenly spaced centres."""

    def columns(self, x: Tensor, inputs: slice = ALL) -> Tensor:
        square = self._offset(x).square()
        return HAT * (1 - square) * torch.exp(square * -0.5)

    def columns_and_slopes(self, x: Tensor, inputs: slice = ALL) -> tuple[Tensor, Tensor]:
        offset = self._offset(x)
        square = offset.square()
        bell = HAT * torch.exp(square * -0.5)
        return (1 - square) * bell, offset * (square - 3) * bell / self.width


class FourierBasis(Basis):
    """``cos(mx)`` and ``sin(mx)`` for ``m`` from 1 to half the size: first all cosines, then all sines.

    Args:
        size: number of functions, even.

    Raises:
        ValueError: the size is odd or less than 2.
    """

    def __init__(self, size: int = 8) -> None:
        super().__init__()
        if size < 2 or size % 2:
            raise ValueError(f"size must be even and at least 2 (a cosine and a sine for each frequency), not {size}")
        self.size = size

    def columns(self, x: Tensor, inputs: slice = ALL) -> Tensor:
        return self.columns_and_slopes(x, inputs)[0]

    def columns_and_slopes(self, x: Tensor, inputs: slice = ALL) -> tuple[Tensor, Tensor]:
        frequencies = torch.arange(1, self.size // 2 + 1, dtype=x.dtype, device=x.device)[:, None]
        angle = x[:, None] * frequencies
        cos, sin = angle.cos(), angle.sin()
        return torch.cat([cos, sin], 1), torch.cat([-frequencies * sin, frequencies * cos], 1)


class ChebyshevBasis(Basis):
    """Chebyshev polynomials of degree 0 to ``size - 1`` in ``tanh(x)``, which brings any input into [-1, 1].

    Args:
        size: number of polynomials, at least 1.

    Raises:
        ValueError: the size is less than 1.
    """

    def __init__(self, size: int = 8) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"size must be at least 1, not {size}")
        self.size = size

    def columns(self, x: Tensor, inputs: slice = ALL) -> Tensor:
        z = x.tanh()
        terms = [torch.ones_like(z), z]
        while len(terms) < self.size:
            terms.append(2 * z * terms[-1] - terms[-2])
        return torch.stack(terms[: self.size], 1)

    def columns_and_slopes(self, x: Tensor, inputs: slice = ALL) -> tuple[Tensor, Tensor]:
        values, z = self.columns(x, inputs), x.tanh()
        slopes = [torch.zeros_like(z), torch.ones_like(z)]
        while len(slopes) < self.size:
            slopes.append(2 * values[:, len(slopes) - 1] + 2 * z * slopes[-1] - slopes[-2])
        return values, torch.stack(slopes[: self.size], 1) * (1 - z * z)[:, None]


class ReLUPairBasis(Basis):
    """Bumps made of two ReLUs, ``(relu(x - l) relu(h - x) 4 / (h - l)²)²``: 1 in the middle, 0 outside (ReLU-KAN).

    Pair ``m`` reaches from ``l = m / grid_size`` to ``h = l + (degree + 1) / grid_size``, ``m`` from ``-degree`` to
    ``grid_size - 1``; both are measured on the grid's range stretched to [0, 1].

    Args:
        grid_size: number of intervals on the range, at least 1.
        degree: how many further intervals a bump covers, at least 0.
        grid_range: ends of the grid.

    Raises:
        ValueError: the grid is empty, the degree negative or the range reversed.
    """

    def __init__(self, grid_size: int = 5, degree: int = 3, grid_range: tuple[float, float] = (0.0, 1.0)) -> None:
        super().__init__()
        if grid_size < 1:
            raise ValueError(f"grid_size must be at least 1, not {grid_size}")
        if degree < 0:
            raise ValueError(f"degree must not be negative, not {degree}")
        low, high = map(float, grid_range)
        if not low < high:
            raise ValueError(f"grid_range must be (low, high) with low < high, not {grid_range}")
        self.size, self.grid_size, self.degree, self.low, self.high = grid_size + degree, grid_size, degree, low, high

    def columns(self, x: Tensor, inputs: slice = ALL) -> Tensor:
        return self.columns_and_slopes(x, inputs)[0]

    def columns_and_slopes(self, x: Tensor, inputs: slice = ALL) -> tuple[Tensor, Tensor]:
        step = (self.high - self.low) / self.grid_size
        reach = (self.degree + 1) * step
        lows = torch.arange(-self.degree, self.grid_size, dtype=x.dtype, device=x.device)[:, None] * step + self.low
        up = (x[:, None] - lows).relu()
        down = (reach - up).relu()
        root = up * down * (4 / reach**2)
        return root.square(), root * (down - up) * (8 / reach**2)


def make_basis(
    name: str,
    in_features: int,
    grid_size: int,
    degree: int,
    grid_range: tuple[float, float],
    **where: Any,
) -> Basis:
    """A basis by name with ``grid_size + degree`` functions.

    Raises:
        ValueError: the name is unknown; the message lists the names.
    """
    from neurarium.layers.kan._bspline import BSplineBasis

    size = grid_size + degree
    makers = {
        "bspline": lambda: BSplineBasis(in_features, grid_size, degree, grid_range, **where),
        "fourier": lambda: FourierBasis(size),
        "chebyshev": lambda: ChebyshevBasis(size),
        "radial": lambda: RadialBasis(size, grid_range),
        "switch": lambda: SwitchBasis(size, grid_range),
        "wavelet": lambda: WaveletBasis(size, grid_range),
        "relu": lambda: ReLUPairBasis(grid_size, degree, grid_range),
    }
    if name not in makers:
        raise ValueError(f"basis must be a Basis or one of {', '.join(makers)}, not {name!r}")
    return makers[name]()
