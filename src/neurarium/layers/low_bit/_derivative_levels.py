"""The best piecewise-constant stand-in for the derivative of an activation function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Fold = Literal["none", "even", "odd"]
Elementwise = Callable[[Tensor], Tensor]
Grid = Float[np.ndarray, "_"]

GAUSS_NODES, GAUSS_WEIGHTS = np.polynomial.legendre.leggauss(4)


@dataclass(frozen=True)
class PiecewiseConstant:
    """A step function with at most ``2 ** bits`` values, as the codes of `few_bit_activation` see it.

    With ``fold="none"`` the code of x is the number of thresholds below x. With "even" it is the number of thresholds
    below abs(x - center). With "odd" that number too, plus half the codes where x > center.

    Args:
        thresholds: increasing; of x, or of its distance to ``center``.
        levels: the value for each code.
        error: weighted integral over the domain of the squared difference to the derivative (equation 5).
        fold: which symmetry the codes use.
        center: the point about which it holds.
    """

    thresholds: tuple[float, ...]
    levels: tuple[float, ...]
    error: float
    fold: Fold = "none"
    center: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """The step function at x."""
        place = x if self.fold == "none" else (x - self.center).abs()
        code = torch.bucketize(place, torch.tensor(self.thresholds, dtype=x.dtype))
        if self.fold == "odd":
            code = code + len(self.levels) // 2 * (x > self.center)
        return torch.tensor(self.levels, dtype=x.dtype)[code]


def optimal_derivative(
    fn: Elementwise,
    bits: int = 3,
    *,
    domain: tuple[float, float] = (-10.0, 10.0),
    weight: Elementwise | None = None,
    symmetry: Literal["auto", "none"] = "auto",
    cells: int | None = None,
) -> PiecewiseConstant:
    """Thresholds and levels with the least weighted squared error to the derivative of ``fn`` (section 3).

    Dynamic programming over the points of a grid finds the global optimum there; two more passes on finer grids around
    its thresholds sharpen them. A symmetry of the derivative about the middle of the domain is used where the weight
    has it too: an even derivative needs no sign and gets twice the levels, which is never worse; one that is odd up to
    a constant gets mirrored ones, unless levels without a symmetry are better.

    Args:
        fn: an elementwise differentiable function of a tensor, called in float64.
        bits: bits per element, 1 to 8.
        domain: where the error counts; outside it the outermost levels hold.
        weight: density of the inputs, 1 by default. Values below a millionth of the largest are raised to that.
        symmetry: "auto" looks for a symmetry, "none" does not.
        cells: grid cells, 2,000 for up to 4 bits and 1,000 beyond by default. Jumps of the derivative should fall on
            the grid (multiples of 0.01 with the default domain and up to 4 bits do).

    Returns:
        The step function and its error.

    Raises:
        ValueError: ``bits`` is not in 1..8, the domain is empty, ``fn`` is not elementwise or its derivative not finite
            on the domain, the weight is negative, or there are fewer cells than intervals.
    """
    if not isinstance(bits, int) or not 1 <= bits <= 8:
        raise ValueError(f"bits must be a whole number from 1 to 8, not {bits!r}")
    low, high = domain
    if not low < high:
        raise ValueError(f"domain must be (low, high) with low < high, not {domain}")
    if symmetry not in ("auto", "none"):
        raise ValueError(f"symmetry must be 'auto' or 'none', not {symmetry!r}")
    cells = cells or (2000 if bits <= 4 else 1000)
    if cells < 2**bits:
        raise ValueError(f"cells must be at least {2**bits} for {bits} bits, not {cells}")
    fold = _symmetry(fn, weight, low, high) if symmetry == "auto" else "none"
    found = _fold(fn, weight, bits, low, high, cells, fold)
    if fold == "odd" and found.error > 0:  # mirrored levels are not always the best of so many
        free = _fold(fn, weight, bits, low, high, cells, "none")
        found = free if free.error < (1 - 1e-6) * found.error else found
    return found


def _fold(
    fn: Elementwise, weight: Elementwise | None, bits: int, low: float, high: float, cells: int, fold: Fold
) -> PiecewiseConstant:
    """The best step function whose codes use one symmetry."""
    center = (low + high) / 2
    start, pieces = (low, 2**bits) if fold == "none" else (center, 2**bits if fold == "even" else 2 ** (bits - 1))
    base = np.linspace(start, high, cells + 1)
    thresholds, levels, error = _solve(fn, weight, base, base, pieces)
    width = (high - start) / cells
    for _ in range(2 if 1 < pieces <= 16 else 0):  # sharpen: 20 points on each side of every threshold
        local = (thresholds[:, None] + np.linspace(-width, width, 41)).ravel()
        candidates = np.unique(np.clip(np.concatenate([[start, high], local.round(9)]), start, high))
        better = _solve(fn, weight, base, candidates, pieces)
        if better[2] < error:
            thresholds, levels, error = better
        width /= 20
    if fold == "none":
        return PiecewiseConstant(tuple(thresholds.tolist()), tuple(levels.tolist()), error)
    if fold == "odd":  # f'(center + d) + f'(center - d) is a constant
        total = _derivative(fn, np.array([low, high])).sum()
        levels = np.concatenate([total - levels, levels])
    return PiecewiseConstant(tuple((thresholds - center).tolist()), tuple(levels.tolist()), 2 * error, fold, center)


def uniform_derivative(fn: Elementwise, bits: int = 3, *, domain: tuple[float, float] = (-10, 10)) -> PiecewiseConstant:
    """Intervals of equal width with their mean derivative: what `optimal_derivative` is measured against.

    The equal intervals span the symmetric range about the middle of the domain that gives the least error there (one
    of 100); the two outermost extend to its ends.
    """
    low, high = domain
    grid = np.linspace(low, high, 2001)
    best: tuple[float, Grid, Grid] | None = None
    integrals = _integrals(fn, None, grid)
    for part in np.linspace(0.01, 1, 100):
        half = part * (high - low) / 2
        inner = np.linspace((low + high) / 2 - half, (low + high) / 2 + half, 2**bits + 1)[1:-1]
        at = np.concatenate([[0], np.searchsorted(grid, inner - 1e-9), [2000]])
        w, f, f2 = (np.diff(values[at]) for values in integrals)
        if (w > 0).all():
            error = float((f2 - f**2 / w).sum())
            if best is None or error < best[0]:
                best = error, grid[at[1:-1]], f / w
    if best is None:
        raise ValueError(f"domain {domain} is too narrow for {bits} bits")
    return PiecewiseConstant(tuple(best[1].tolist()), tuple(best[2].tolist()), best[0])


def _derivative(fn: Elementwise, points: Grid) -> Grid:
    """The derivative in float64."""
    x = torch.from_numpy(np.ascontiguousarray(points, dtype=np.float64)).requires_grad_()
    with torch.enable_grad():
        y = fn(x)
        if not isinstance(y, Tensor) or y.shape != x.shape:
            raise ValueError("fn must be elementwise: its output must have the shape of its input")
        (slope,) = torch.autograd.grad(y.sum(), x)
    values = slope.numpy()
    if not np.isfinite(values).all():
        bad = float(points[~np.isfinite(values)][0])
        raise ValueError(f"fn must have a finite derivative on the domain, but it has none at {bad:.4g}")
    return values


def _check_elementwise(fn: Elementwise, low: float, high: float) -> None:
    x = torch.linspace(low, high, 24, dtype=torch.float64)
    with torch.no_grad():
        whole, rows = fn(x.clone()), fn(x.view(4, 6).clone())
        alone = torch.stack([fn(v.clone().reshape(1))[0] for v in x]) if whole.shape == x.shape else whole
    if whole.shape != x.shape or rows.shape != (4, 6) or not torch.allclose(whole, alone, equal_nan=True):
        raise ValueError("fn must be elementwise: each output may depend on the input at its own place only")


def _symmetry(fn: Elementwise, weight: Elementwise | None, low: float, high: float) -> Fold:
    """Whether the derivative and the weight are symmetric about the middle of the domain."""
    _check_elementwise(fn, low, high)
    distance = (np.arange(500) + 0.5) / 500 * (high - low) / 2
    right, left = (high + low) / 2 + distance, (high + low) / 2 - distance
    w_right, w_left = _weights(weight, right), _weights(weight, left)
    if not np.allclose(w_right, w_left, rtol=1e-6):
        return "none"
    up, down = _derivative(fn, right), _derivative(fn, left)
    close = 1e-6 * float(np.abs([up, down]).max())
    if np.allclose(up, down, atol=close):
        return "even"
    return "odd" if np.allclose(up + down, up[-1] + down[-1], atol=close) else "none"


def _weights(weight: Elementwise | None, points: Grid) -> Grid:
    if weight is None:
        return np.ones_like(points)
    values = weight(torch.from_numpy(points)).double().numpy()
    if values.shape != points.shape or not np.isfinite(values).all() or values.min() < 0 or values.max() <= 0:
        raise ValueError("weight must be finite and not negative, somewhere positive, one value per input")
    return np.maximum(values, 1e-6 * values.max())


def _integrals(fn: Elementwise, weight: Elementwise | None, grid: Grid) -> tuple[Grid, Grid, Grid]:
    """Integrals of w, f' w and f'^2 w from the first grid point to each, by Gauss-Legendre quadrature in each cell."""
    half = np.diff(grid)[:, None] / 2
    points = ((grid[:-1] + grid[1:])[:, None] / 2 + half * GAUSS_NODES).ravel()
    slope = _derivative(fn, points).reshape(len(half), -1)
    density = _weights(weight, points).reshape(len(half), -1) * half * GAUSS_WEIGHTS

    def total(values: np.ndarray) -> Grid:
        return np.concatenate([[0.0], np.cumsum(values.sum(1))])

    return total(density), total(slope * density), total(slope**2 * density)


def _solve(
    fn: Elementwise, weight: Elementwise | None, base: Grid, candidates: Grid, pieces: int
) -> tuple[Grid, Grid, float]:
    """Dynamic programming: inner thresholds, levels and error of the best step function with jumps at candidates.

    The integrals are taken over the cells of ``base`` as well, so that candidates may lie far apart.
    """
    fine = np.union1d(base, candidates)
    at = np.searchsorted(fine, candidates)
    w, f, f2 = (values[at] for values in _integrals(fn, weight, fine))
    width = w[None, :] - w[:, None]
    inside = np.triu(np.ones_like(width, dtype=bool), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = (f2[None, :] - f2[:, None]) - (f[None, :] - f[:, None]) ** 2 / width
    cost = np.where(inside, np.maximum(cost, 0), np.inf).T.copy()  # cost[j, i] of one level from candidate i to j
    best = cost[:, 0].copy()  # best[j]: least error of m levels up to candidate j
    came: list[np.ndarray] = []
    rows = np.arange(len(candidates))
    for _ in range(pieces - 1):
        sums = cost + best
        came.append(sums.argmin(1))
        best = sums[rows, came[-1]]
    ends = [len(candidates) - 1]
    for origin in reversed(came):
        ends.append(int(origin[ends[-1]]))
    at = np.array([0, *ends[:0:-1], len(candidates) - 1])
    return candidates[at[1:-1]], np.diff(f[at]) / np.diff(w[at]), float(best[-1])
