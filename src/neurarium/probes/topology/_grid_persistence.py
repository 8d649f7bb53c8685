"""Persistent homology of a picture: which parts and holes its superlevel sets have, and from which level to which."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neurarium.probes._result import ProbeResult


@dataclass(frozen=True)
class Persistence(ProbeResult):
    """Bars, [birth, death], of each dimension. As the level falls, superlevel sets grow: birth is above death.

    Args:
        diagrams: for each dimension its bars, [bars, 2], the longest first; one that never dies ends at -inf (a
            filtration that rises, of distances, is born below and ends at +inf).
        kind: what the levels are.
    """

    diagrams: tuple[Float[Tensor, "_ 2"], ...]
    kind: str = field(default="level")

    def lifetimes(self, dimension: int) -> Float[Tensor, " bars"]:
        """Length of each bar."""
        bars = self.diagrams[dimension]
        return (bars[:, 0] - bars[:, 1]).abs()

    def count(self, dimension: int, threshold: float) -> int:
        """Bars that are longer."""
        return int((self.lifetimes(dimension) > threshold).sum())

    def alive(self, level: float = 0.0, threshold: float = 0.0) -> tuple[int, ...]:
        """Bars of a falling filtration that hold a level and go beyond it by a threshold on both sides."""
        return tuple(
            int(((bars[:, 0] - level >= threshold) & (level - bars[:, 1] > threshold)).sum()) for bars in self.diagrams
        )

    def summary(self) -> str:
        """How many bars, and the longest."""
        parts = []
        for dimension, bars in enumerate(self.diagrams):
            lengths = ", ".join(f"{value:.3g}" for value in self.lifetimes(dimension)[:4].tolist())
            parts.append(f"H{dimension}: {len(bars)} bars, the longest {lengths or 'none'}")
        return "; ".join(parts)

    def plot(self, ax: Any) -> Any:
        """A line for each bar, the longest at the bottom of its dimension."""
        finite = torch.cat([bars[bars.isfinite()] for bars in self.diagrams]) if self.diagrams else torch.zeros(0)
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
        spare = 0.05 * (high - low or 1.0)
        height = 0
        for dimension, bars in enumerate(self.diagrams):
            shown = bars[:60].clamp(low - spare, high + spare)
            rows = range(height, height + len(shown))
            ax.hlines(rows, shown[:, 0], shown[:, 1], color=f"C{dimension}", label=f"H{dimension}")
            height += len(shown)
        ax.set(xlabel=self.kind, yticks=[])
        ax.legend(loc="best")
        return ax


def grid_persistence(values: Float[Tensor, "rows columns"]) -> Persistence:
    """Bars of the superlevel sets of a picture of two dimensions, pixels that share a corner being connected.

    A hole of a superlevel set is a part of what lies below, connected through edges, that does not reach the border:
    so both dimensions are merge trees. Each is found from the basins of its peaks alone.

    Args:
        values: one number per pixel.

    Raises:
        ValueError: not a picture, or a number is not finite.
    """
    if values.dim() != 2 or values.numel() == 0 or not bool(values.isfinite().all()):
        raise ValueError("values must be a picture [rows, columns] of finite numbers")
    array = values.detach().cpu().double().numpy()
    parts = _merge_tree(array, corners=True)
    below = np.pad(-array, 1, constant_values=np.inf)
    holes = -_merge_tree(below, corners=False)[:, ::-1]
    holes = holes[np.isfinite(holes).all(1)]
    return Persistence(tuple(torch.from_numpy(_sorted(bars)) for bars in (parts, holes)))


def _sorted(bars: np.ndarray) -> np.ndarray:
    bars = bars[bars[:, 0] > bars[:, 1]]
    return np.ascontiguousarray(bars[np.argsort(bars[:, 1] - bars[:, 0], kind="stable")])


def _merge_tree(array: np.ndarray, corners: bool) -> np.ndarray:
    """Births and deaths of the parts of superlevel sets.

    Every pixel leads along its highest neighbours to a peak, through pixels above its own level; so parts are sets of
    peaks, and they merge where two pixels of different basins meet, at the lower of the two.
    """
    count = array.size
    rank = np.empty(count, np.int64)
    rank[np.argsort(array, axis=None, kind="stable")] = np.arange(count)
    grid = rank.reshape(array.shape)
    place = np.arange(count).reshape(array.shape)
    steps = [(0, 1), (1, 0), *([(1, 1), (1, -1)] if corners else [])]
    ends = [tuple(p.ravel() for p in _shifted(place, *step)) for step in steps]
    best = rank.copy()
    for a, b in ends:
        np.maximum.at(best, a, rank[b])
        np.maximum.at(best, b, rank[a])
    at_rank = np.empty(count, np.int64)
    at_rank[grid.ravel()] = np.arange(count)
    top = at_rank[best]
    while True:  # follow the pointers, twice as far each time
        further = top[top]
        if (further == top).all():
            break
        top = further
    a, b = (np.concatenate(part) for part in zip(*ends))
    apart = top[a] != top[b]
    a, b = a[apart], b[apart]
    saddle = np.minimum(rank[a], rank[b])
    first, second = np.minimum(top[a], top[b]), np.maximum(top[a], top[b])
    order = np.argsort(-saddle, kind="stable")
    key = first[order] * count + second[order]
    _, leading = np.unique(key, return_index=True)  # the highest saddle of each pair of basins
    order = order[np.sort(leading)]
    flat = array.ravel()
    peaks = np.flatnonzero(top == np.arange(count))
    parent = dict(zip(peaks.tolist(), peaks.tolist()))

    def find(peak: int) -> int:
        while parent[peak] != peak:
            parent[peak] = parent[parent[peak]]
            peak = parent[peak]
        return peak

    bars = []
    for p, q, level in zip(first[order].tolist(), second[order].tolist(), flat[at_rank[saddle[order]]].tolist()):
        p, q = find(p), find(q)
        if p != q:
            young, old = (p, q) if rank[p] < rank[q] else (q, p)
            parent[young] = old
            bars.append((flat[young], level))
    bars.append((flat.max(), -np.inf))
    return np.array(bars)


def _shifted(place: np.ndarray, down: int, across: int) -> tuple[np.ndarray, np.ndarray]:
    """Each pixel that has a neighbour that way, and the neighbour."""
    rows, columns = place.shape
    if across >= 0:
        return place[: rows - down, : columns - across], place[down:, across:]
    return place[: rows - down, -across:], place[down:, :across]
