"""Moving and refining the grid of a spline while the function stays where the new grid can hold it."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from neurarium.layers.kan._bspline import BSplineBasis

RIDGE = 1e-8
"""Of the mean diagonal, on the normal equations of a refit."""
ROWS = 1024


def sample_grid(x: Tensor, intervals: int, uniform: float) -> tuple[Tensor, Tensor]:
    """Grid points between evenly spaced and the samples' quantiles, each input for itself.

    Args:
        x: samples [rows, inputs] in float64.
        intervals: number of intervals.
        uniform: share of the evenly spaced grid, in (0, 1]; it keeps equal samples from making equal points.

    Returns:
        Points [inputs, intervals + 1], and whether an input varies at all [inputs]; where not, its points mean nothing.
    """
    ordered = x.sort(dim=0).values
    picks = torch.linspace(0, len(x) - 1, intervals + 1, dtype=torch.float64).round().long()
    quantiles = ordered[picks].t()
    low, high = quantiles[:, :1], quantiles[:, -1:]
    even = low + (high - low) * torch.linspace(0, 1, intervals + 1, dtype=x.dtype)
    varies = (high - low)[:, 0] > 1e-6 * torch.maximum(low.abs(), high.abs())[:, 0].clamp_min(1e-6)
    points = torch.lerp(quantiles, even, uniform)
    points[:, :1], points[:, -1:] = low, high  # not even rounding leaves a sample outside
    return points, varies


def extend(points: Tensor, degree: int) -> Tensor:
    """Knots: grid points [inputs, points] and ``degree`` more on both sides, a mean interval apart."""
    width = (points[:, -1:] - points[:, :1]) / (points.shape[1] - 1)
    beyond = width * torch.arange(1, degree + 1, dtype=points.dtype)
    return torch.cat([points[:, :1] - beyond.flip(1), points, points[:, -1:] + beyond], 1)


def refined(knots: Tensor, degree: int, intervals: int) -> Tensor:
    """Knots with more intervals by linear interpolation of the grid's points; those of the extension stay.

    So the old knots are among the new ones where the old number divides the new one, and every old function is still
    there, outside the grid too.
    """
    last = knots.shape[1] - degree
    points = knots[:, degree:last]
    where = torch.linspace(0, points.shape[1] - 1, intervals + 1, dtype=knots.dtype)
    left = where.floor().clamp(max=points.shape[1] - 2).long()
    between = torch.lerp(points[:, left], points[:, left + 1], where - left)
    return torch.cat([knots[:, :degree], between, knots[:, last:]], 1)


def inside(points: Tensor, each: int) -> Tensor:
    """``each`` sites within every interval [each * intervals, inputs], to fit a function on a whole grid."""
    share = (torch.arange(each, dtype=points.dtype) + 0.5) / each
    return (points[:, :-1, None] + points.diff(dim=1)[..., None] * share).flatten(1).t()


def transfer(old: BSplineBasis, new: BSplineBasis, x: Tensor) -> Tensor:
    """What turns coefficients of the old basis into those of the new one that fit the same function at some sites.

    Least squares by normal equations in float64. The ridge leaves functions that no site touches at 0; two corrections
    by the residual take its bias away where the sites do decide.

    Args:
        old: the basis that is left; in float64, on the CPU.
        new: the basis that comes; the same.
        x: sites [rows, inputs] in float64.

    Returns:
        One matrix for each input, [inputs, new size, old size].
    """
    own = cross = torch.zeros(1, dtype=torch.float64)
    for start in range(0, len(x), ROWS):
        columns = x[start : start + ROWS].t()
        fresh, known = new.columns(columns), old.columns(columns)
        own = own + fresh @ fresh.mT
        cross = cross + fresh @ known.mT
    diagonal = own.diagonal(dim1=1, dim2=2).mean(1).clamp_min(torch.finfo(torch.float64).tiny)
    factor = torch.linalg.cholesky(own + RIDGE * diagonal[:, None, None] * torch.eye(new.size, dtype=torch.float64))
    matrix = torch.cholesky_solve(cross, factor)
    for _ in range(2):
        matrix = matrix + torch.cholesky_solve(cross - own @ matrix, factor)
    return matrix


def on_cpu(basis: BSplineBasis) -> BSplineBasis:
    """A copy in float64 on the CPU, where a refit is made whatever the device (some have no float64)."""
    return copy.deepcopy(basis).double().cpu()
