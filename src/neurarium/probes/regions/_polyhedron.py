"""Convex polyhedra as intersections of half-spaces."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

THIN = 1e-9
"""A cell in which no ball of this radius fits counts as empty."""


@dataclass(frozen=True)
class Polyhedron:
    """The points with ``normals @ x <= offsets``.

    Args:
        normals: outward normals, [rows, dimensions]; scaled to length 1 together with their offsets.
        offsets: one number per row.
        shape: of an input that is no vector (an image), whose flattened form is x; default a vector.

    Raises:
        ValueError: sizes do not fit, or a number is not finite.
    """

    normals: Float[Tensor, "rows dimensions"]
    offsets: Float[Tensor, " rows"]
    shape: tuple[int, ...] = field(default=())

    def __post_init__(self) -> None:
        normals, offsets = (t.detach().cpu().double() for t in (self.normals, self.offsets))
        if not bool(normals.isfinite().all() and offsets.isfinite().all()):
            raise ValueError("normals and offsets of a polyhedron must be finite")
        if self.shape and math.prod(self.shape) != normals.shape[1]:
            raise ValueError(f"shape {self.shape} does not hold the {normals.shape[1]} dimensions of the normals")
        length = normals.norm(dim=1)
        scale = torch.where(length > 0, length, 1)
        object.__setattr__(self, "normals", normals / scale[:, None])
        object.__setattr__(self, "offsets", offsets / scale)
        object.__setattr__(self, "shape", self.shape or (normals.shape[1],))

    @classmethod
    def box(cls, low: Tensor | Sequence[float], high: Tensor | Sequence[float]) -> Polyhedron:
        """All x between two corners, which have the shape of an input.

        Raises:
            ValueError: the corners differ in shape, or low is not below high everywhere.
        """
        below, above = (torch.as_tensor(t, dtype=torch.float64).detach().cpu() for t in (low, high))
        if below.shape != above.shape or below.dim() == 0:
            raise ValueError(f"low and high must be of one shape, not {tuple(below.shape)} and {tuple(above.shape)}")
        if not bool((below < above).all()):
            raise ValueError("low must be below high in every dimension")
        eye = torch.eye(below.numel(), dtype=torch.float64)
        return cls(torch.cat([-eye, eye]), torch.cat([-below.flatten(), above.flatten()]), tuple(below.shape))

    @classmethod
    def everything(cls, *shape: int) -> Polyhedron:
        """All inputs of a shape."""
        return cls(torch.zeros(0, math.prod(shape)), torch.zeros(0), shape)

    @property
    def dimensions(self) -> int:
        """Dimensions of the space."""
        return self.normals.shape[1]

    @functools.cached_property
    def bounds(self) -> tuple[Float[Tensor, " dimensions"], Float[Tensor, " dimensions"]]:
        """The box that rows along an axis make; infinite where there is none."""
        low = torch.full((self.dimensions,), -math.inf, dtype=torch.float64)
        high = -low
        for row, offset in zip(self.normals, self.offsets):
            axis = row.abs().argmax()
            if float(row[axis].abs()) == 1.0 and int(row.count_nonzero()) == 1:
                if row[axis] > 0:
                    high[axis] = min(high[axis], offset)
                else:
                    low[axis] = max(low[axis], -offset)
        return low, high

    @functools.cached_property
    def bounded(self) -> bool:
        """Whether rows along the axes bound it on all sides."""
        return all(bool(side.isfinite().all()) for side in self.bounds)

    def cut(self, normals: Tensor, offsets: Tensor) -> Polyhedron:
        """The part with ``normals @ x <= offsets`` too."""
        rows, ends = torch.cat([self.normals, normals.double()]), torch.cat([self.offsets, offsets.double()])
        return Polyhedron(rows, ends, self.shape)

    def slack(self, x: Float[Tensor, "points dimensions"]) -> Float[Tensor, "points rows"]:
        """Distance of each point to each row's plane, negative outside."""
        return self.offsets - x.double() @ self.normals.T

    def contains(self, x: Float[Tensor, "points dimensions"], tolerance: float = THIN) -> Bool[Tensor, " points"]:
        """Which points lie in it."""
        return (self.slack(x) >= -tolerance).all(1)

    def centre(self, cap: float = 1.0) -> tuple[Float[Tensor, " dimensions"], float] | None:
        """Centre and radius of a largest ball inside, of radius ``cap`` at most; None where no ball fits."""
        found = largest_ball(self.normals.numpy(), self.offsets.numpy(), cap)
        return None if found is None else (torch.from_numpy(found[0]), found[1])

    def irredundant(self, inside: Float[Tensor, " dimensions"] | None = None) -> Int[Tensor, " rows"]:
        """The rows without which the polyhedron would be larger.

        Rays from a point inside prove most of the needed rows; each of the others is decided by a linear programme.

        Args:
            inside: a point in the interior; default the centre.

        Raises:
            ValueError: the polyhedron has no interior.
        """
        if inside is None:
            ball = self.centre()
            if ball is None:
                raise ValueError("an empty polyhedron has no irredundant rows")
            inside = ball[0]
        start, rows, ends = inside.double().numpy(), self.normals.numpy(), self.offsets.numpy()
        slack = ends - rows @ start
        draw = np.random.default_rng(0)
        rays = np.concatenate([draw.normal(size=(20 * len(rows) + 20, rows.shape[1])), rows])
        needed = np.zeros(len(rows), bool)
        first, hit = _first_hits(rows, slack, rays)
        needed[first[hit]] = True
        kept = np.ones(len(rows), bool)
        for k in np.flatnonzero(~needed):
            kept[k] = False
            others = rows[kept], ends[kept]
            kept[k] = linear_maximum(rows[k], *others, above=ends[k] + 1.0) > ends[k] + THIN
        return torch.from_numpy(np.flatnonzero(kept))

    def polygon(self) -> Float[Tensor, "corners 2"]:
        """The corners, in order, of a bounded polyhedron of two dimensions.

        Raises:
            ValueError: another dimension, or not bounded along the axes.
        """
        if self.dimensions != 2 or not self.bounded:
            raise ValueError("only a polyhedron of two dimensions, bounded along both axes, has a polygon")
        (left, lower), (right, upper) = (side.tolist() for side in self.bounds)
        corners = np.array([[left, lower], [right, lower], [right, upper], [left, upper]])
        for row, end in zip(self.normals.numpy(), self.offsets.numpy()):
            corners = clip(corners, corners @ row - end)
        return torch.from_numpy(corners)


def largest_ball(rows: np.ndarray, ends: np.ndarray, cap: float = 1.0) -> tuple[np.ndarray, float] | None:
    """A largest ball with ``rows @ x <= ends`` (rows of length 1), by one linear programme."""
    from scipy.optimize import linprog

    d = rows.shape[1]
    if len(rows) == 0:
        return np.zeros(d), cap
    flat = np.flatnonzero(~rows.any(1))
    if (ends[flat] < 0).any():
        return None
    goal = np.zeros(d + 1)
    goal[-1] = -1.0
    table = np.column_stack([rows, rows.any(1)])
    found = linprog(
        goal, table, ends, bounds=[(None, None)] * d + [(None, cap)], method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )  # fmt: skip
    if found.x is None:
        return None
    point = found.x[:d]
    radius = min(float((ends - rows @ point)[rows.any(1)].min(initial=cap)), cap)  # not the solver's word for it
    return (point, radius) if radius > THIN else None


def linear_maximum(goal: np.ndarray, rows: np.ndarray, ends: np.ndarray, above: float = math.inf) -> float:
    """The largest ``goal @ x`` with ``rows @ x <= ends``, or ``above`` where it is larger."""
    from scipy.optimize import linprog

    if math.isfinite(above):
        rows, ends = np.vstack([rows, goal]), np.append(ends, above)
    found = linprog(
        -goal, rows, ends, bounds=(None, None), method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )  # fmt: skip
    return -float(found.fun) if found.status == 0 else math.inf


def clip(corners: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """The part of a convex polygon where a function that is linear on it, given at the corners, is not positive.

    A segment, two corners in one dimension, is clipped alike.
    """
    following = np.roll(outside, -1)
    crossing = outside * following < 0
    share = np.divide(outside, outside - following, out=np.zeros_like(outside), where=crossing)
    between = corners + share[:, None] * (np.roll(corners, -1, 0) - corners)
    if corners.shape[1] == 1:
        return np.concatenate([corners[outside <= 0], between[crossing][:1]])
    pairs = np.stack([corners, between], 1).reshape(-1, 2)
    return pairs[np.stack([outside <= 0, crossing], 1).ravel()]


def _first_hits(rows: np.ndarray, slack: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The row that each ray from inside meets first, and whether it meets one alone."""
    speed = rays @ rows.T
    times = np.divide(slack, speed, out=np.full_like(speed, np.inf), where=speed > 1e-12)
    if times.shape[1] == 1:
        return np.zeros(len(rays), int), np.isfinite(times[:, 0])
    order = np.argpartition(times, 1, axis=1)[:, :2]
    two = np.take_along_axis(times, order, 1)
    first, second = two.min(1), two.max(1)
    alone = np.isfinite(first) & (first < second * (1 - 1e-9))
    return times.argmin(1), alone
