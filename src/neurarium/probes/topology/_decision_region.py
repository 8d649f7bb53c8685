"""Homology of the region in which a network decides for a class."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult
from neurarium.probes.grids._function_grid import Bounds, box_of, evaluate, grid_points
from neurarium.probes.topology._betti import Betti, betti_numbers, without_small
from neurarium.probes.topology._grid_persistence import Persistence, grid_persistence

MOST = 2_000_000
"""Grids of more points are not made."""


@dataclass(frozen=True)
class RegionHomology(ProbeResult):
    """The region where the margin of a class is at least 0, within a box; beyond the box is outside.

    Args:
        betti: its numbers; all 0 where it is empty.
        persistence: bars of the margin's superlevel sets, in two dimensions: how far the margin could shift before a
            part or hole goes. None in one and three.
        resolution: points along each axis of the last grid.
        converged: whether the last two grids gave the same numbers.
        dropped: parts and holes that were too small to count.
        empty: whether no point lies in the region.
        evaluations: points at which the network was asked.
        mask: the region on the last grid, small parts and holes gone.
        margin: on the last grid; interpolated where no border is near.
        box: low and high along each axis, [dimensions, 2].
    """

    betti: Betti
    persistence: Persistence | None
    resolution: int
    converged: bool
    dropped: int
    empty: bool
    evaluations: int
    mask: Bool[Tensor, "*axes"]
    margin: Float[Tensor, "*axes"]
    box: Float[Tensor, "dimensions 2"]

    def summary(self) -> str:
        """The numbers, and how sure they are."""
        if self.empty:
            return f"the region is empty on a grid of {self.resolution} points along each axis"
        sure = "two grids agree" if self.converged else "not the same on a grid of half the resolution"
        small = f"; {self.dropped} too small to count" if self.dropped else ""
        return f"{self.betti.summary()} ({self.resolution} points along each axis, {sure}{small})"

    def plot(self, ax: Any) -> Any:
        """The region (of three dimensions, its middle slice) over the margin."""
        margin, mask, box = self.margin, self.mask, self.box
        if margin.dim() == 3:
            margin, mask, box = margin[:, :, margin.shape[2] // 2], mask[:, :, mask.shape[2] // 2], box[:2]
        if margin.dim() == 1:
            ax.plot(torch.linspace(float(box[0, 0]), float(box[0, 1]), len(margin)), margin)
            ax.axhline(0, color="grey", linewidth=0.8)
            return ax
        edges = [*box[0].tolist(), *box[1].tolist()]
        limit = float(margin.abs().max()) or 1.0
        ax.imshow(margin.T, origin="lower", extent=edges, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
        if bool(mask.any()) and not bool(mask.all()):
            ax.contour(mask.T.double(), levels=[0.5], colors="black", linewidths=1, extent=edges)
        ax.set(xlabel="x0", ylabel="x1", title=self.betti.summary())
        return ax


def decision_region_homology(
    model: nn.Module | Callable[[Tensor], Any],
    bounds: Bounds,
    *,
    resolution: int = 65,
    target: int | None = None,
    refine: bool = True,
    min_size: int = 4,
    largest: int = 513,
) -> RegionHomology:
    """Betti numbers of where a network decides for a class (Guss and Salakhutdinov, 2018), on grids that are refined.

    A finer grid holds the points of the coarser one, and the network is asked only where the coarser one leaves the
    sign open; raise ``resolution`` where parts may be small and steep.

    Args:
        model: a network or function of one, two or three inputs (for more: `plane_slice`, or `point_cloud_homology` of
            examples that it puts into the class).
        bounds: (low, high) of every axis, or a pair for each; one pair means two axes.
        resolution: points along each axis of the first grid.
        target: the class, whose margin is its logit less the largest other; None for the sign of a single output.
        refine: double the resolution until two grids give the same numbers, up to ``largest``.
        min_size: parts and holes of fewer points of the first grid (or as much area) do not count.
        largest: points along each axis of the finest grid.

    Raises:
        ValueError: too many dimensions or points, a class that is not there, or outputs that are not numbers.
    """
    box = box_of(bounds)
    if len(box) > 3:
        raise ValueError(
            f"a grid of {len(box)} dimensions has too many points: take a plane_slice of the model, or the "
            "point_cloud_homology of examples in the class"
        )
    if resolution < 3 or resolution ** len(box) > MOST:
        raise ValueError(f"resolution must be at least 3 and give at most {MOST:,} points, not {resolution}")
    shape = (resolution,) * len(box)
    values = margin_of(evaluate(model, grid_points(box, resolution)), target).numpy().reshape(shape)
    asked, scale, converged = values.size, 1, False
    found, mask, dropped = _count(values, min_size)
    while refine and not converged:
        size = 2 * values.shape[0] - 1
        if size > largest or size ** len(box) > MOST:
            break
        values, more = _refined(model, values, box, target)
        asked, scale = asked + more, 2 * scale
        finer, mask, dropped = _count(values, min_size * scale ** len(box))
        converged, found = finer == found, finer
    picture = torch.from_numpy(values)
    return RegionHomology(
        found, grid_persistence(picture) if len(box) == 2 else None, values.shape[0], converged, dropped,
        not bool(mask.any()), asked, torch.from_numpy(np.ascontiguousarray(mask)), picture, box,
    )  # fmt: skip


def margin_of(outputs: Float[Tensor, "points outputs"], target: int | None) -> Float[Tensor, " points"]:
    """What is at least 0 where the class is decided for.

    Raises:
        ValueError: the class is not there or not named, or an output is not a number.
    """
    if bool(outputs.isnan().any()):
        raise ValueError("the model gives NaN within bounds")
    classes = outputs.shape[1]
    if classes == 1:
        if target not in (None, 0, 1):
            raise ValueError(f"target must be 0 or 1 for a model of one output, not {target}")
        return -outputs[:, 0] if target == 0 else outputs[:, 0]
    if target is None or not 0 <= target < classes:
        raise ValueError(f"target must name one of the model's {classes} outputs, not {target}")
    others = [k for k in range(classes) if k != target]
    return outputs[:, target] - outputs[:, others].amax(1)


def _count(values: np.ndarray, least: int) -> tuple[Betti, np.ndarray, int]:
    mask, dropped = without_small(values >= 0, least)
    return betti_numbers(mask), mask, dropped


def _refined(model: Any, values: np.ndarray, box: Tensor, target: int | None) -> tuple[np.ndarray, int]:
    """Values on a grid of half the spacing: asked where the sign may change, interpolated elsewhere.

    It may where the corners around a point differ by more than the smallest of them is away from 0.
    """
    size, axes = 2 * values.shape[0] - 1, values.ndim
    wide = np.full((size,) * axes, np.nan)
    wide[(slice(None, None, 2),) * axes] = values
    corners = []
    for offset in itertools.product((0, 1), repeat=axes):  # the 2^axes corners around each new point
        corners.append(values[np.ix_(*[(np.arange(size) + o) // 2 for o in offset])])
    around = np.stack(corners)
    near = np.abs(around).min(0) <= np.ptp(around, 0)
    fresh = np.isnan(wide)
    wide[fresh] = around.mean(0)[fresh]
    places = np.argwhere(fresh & near)
    if len(places):
        span = (box[:, 1] - box[:, 0]).numpy()
        points = torch.from_numpy(box[:, 0].numpy() + places / (size - 1) * span)
        wide[tuple(places.T)] = margin_of(evaluate(model, points), target).numpy()
    return wide, len(places)
