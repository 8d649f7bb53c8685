"""Thin plate splines on the positions of a feature map."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def map_positions(size: tuple[int, int], dtype: torch.dtype = torch.float32) -> Float[Tensor, "positions 2"]:
    """(x, y) of each cell's centre, row by row, with the map's borders at -1 and 1."""
    rows, columns = ((2 * torch.arange(n, dtype=dtype) + 1) / n - 1 for n in size)
    return torch.stack([columns.repeat(size[0]), rows.repeat_interleave(size[1])], 1)


def control_points(points: tuple[int, int], dtype: torch.dtype = torch.float32) -> Float[Tensor, "points 2"]:
    """A regular grid of (x, y) on [-1, 1] x [-1, 1], row by row."""
    rows, columns = (torch.linspace(-1, 1, n, dtype=dtype) for n in points)
    return torch.stack([columns.repeat(points[0]), rows.repeat_interleave(points[1])], 1)


def thin_plate_matrix(points: tuple[int, int], size: tuple[int, int]) -> Float[Tensor, "positions points"]:
    """The matrix M by which control points become a dense grid: ``grid = M @ control``.

    The thin plate spline is the smoothest map that takes each regular control point to where ``control`` says. Since
    the regular points and the positions are fixed, all of it is one linear map, solved once (in double precision).

    Args:
        points: rows and columns of regular control points, two at least.
        size: height and width of the map.

    Raises:
        ValueError: the control points lie on a line.
    """
    if min(points) < 2:
        raise ValueError(f"points must be two rows and two columns at least, not {points[0]} x {points[1]}")
    centres = control_points(points, torch.float64)
    count = len(centres)
    ones, flat = torch.ones(count, 1, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)
    affine = torch.cat([ones, centres], 1)
    system = torch.cat([torch.cat([affine, _radial(centres, centres)], 1), torch.cat([flat, affine.T], 1)])
    weights = torch.linalg.inv(system)[:, :count]
    places = map_positions(size, torch.float64)
    at = torch.cat([torch.ones(len(places), 1, dtype=torch.float64), places, _radial(places, centres)], 1)
    return (at @ weights).float()


def _radial(first: Tensor, second: Tensor) -> Tensor:
    """r² ln r²."""
    squared = (first[:, None] - second).square().sum(2).clamp_min(1e-10)
    return squared * squared.log()
