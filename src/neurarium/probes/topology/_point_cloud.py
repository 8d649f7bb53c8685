"""Persistent homology of points in any number of dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neurarium.probes._result import ProbeResult
from neurarium.probes.topology._betti import Betti
from neurarium.probes.topology._grid_persistence import Persistence
from neurarium.probes.topology._rips import rips_bars


@dataclass(frozen=True)
class PointCloudHomology(ProbeResult):
    """Bars of the Vietoris-Rips complex, and the numbers that a rule reads off them.

    Args:
        persistence: bars of dimensions 0 and 1, by distance.
        betti: bars that are longer than the thresholds.
        thresholds: one for each dimension.
        points: how many points were used.
    """

    persistence: Persistence
    betti: Betti
    thresholds: tuple[float, ...]
    points: int

    def summary(self) -> str:
        """The numbers, the rule's thresholds, and the longest bars."""
        cut = ", ".join(f"{value:.3g}" for value in self.thresholds)
        return f"{self.betti.summary()} (bars longer than {cut}, {self.points} points); {self.persistence.summary()}"

    def plot(self, ax: Any) -> Any:
        """Births and deaths: the further from the diagonal, the more they mean."""
        bars = [d[d.isfinite().all(1)] for d in self.persistence.diagrams]
        most = max([float(d.max()) for d in bars if len(d)], default=1.0)
        ax.plot([0, most], [0, most], color="grey", linewidth=0.8)
        for dimension, (points, threshold) in enumerate(zip(bars, self.thresholds)):
            ax.scatter(points[:, 0], points[:, 1], s=12, color=f"C{dimension}", label=f"H{dimension}")
            if np.isfinite(threshold):
                ax.plot([0, most], [threshold, most + threshold], color=f"C{dimension}", linewidth=0.8, linestyle=":")
        ax.set(xlabel="birth", ylabel="death", ylim=(0, 1.05 * most))
        ax.legend(loc="lower right")
        return ax


def point_cloud_homology(
    points: Float[Tensor, "points ..."], *, max_points: int = 1000, rule: Literal["gap", "bootstrap"] = "gap",
    threshold: float | None = None, generator: torch.Generator | None = None,
) -> PointCloudHomology:  # fmt: skip
    """Parts and loops of the set that points were drawn from, by Vietoris-Rips persistence.

    Too many points are thinned: each next one is the farthest from those taken. A count alone says little; look at the
    bars too.

    Args:
        points: examples, flattened; any number of dimensions.
        max_points: how many are kept. Time grows with the cube.
        rule: which bars count: "gap", those above the largest ratio of neighbouring lengths (of those that are a tenth
            of the largest distance of the points at least); "bootstrap", those longer than twice the 95 % quantile of
            the distance between the points and a resample of them (Fasy et al., 2014).
        threshold: bars longer than this count, whatever the rule.
        generator: of the bootstrap's draws, on the CPU.

    Raises:
        ValueError: no points, or a number that is not finite.
    """
    flat = points.detach().cpu().double().reshape(len(points), -1) if len(points) else torch.zeros(0, 1)
    if len(flat) == 0 or max_points < 1:
        raise ValueError("points must hold at least one example, and max_points be at least 1")
    if not bool(flat.isfinite().all()):
        raise ValueError("points must be finite")
    if rule not in ("gap", "bootstrap"):
        raise ValueError(f"rule must be 'gap' or 'bootstrap', not {rule!r}")
    kept = farthest_points(flat, max_points)
    distance = torch.cdist(kept, kept, compute_mode="donot_use_mm_for_euclid_dist").numpy()
    diagrams = [torch.from_numpy(_longest_first(bars)) for bars in rips_bars(distance)]
    found = Persistence(tuple(diagrams), "distance")
    spread = float(distance.max())
    if threshold is not None:
        cuts = [threshold, threshold]
    elif rule == "bootstrap":
        cuts = [2 * _resampling_distance(kept, generator)] * 2
    else:
        cuts = [_gap(found.lifetimes(d).numpy(), spread) for d in range(2)]
    betti = Betti(tuple(found.count(d, cuts[d]) for d in range(2)))
    return PointCloudHomology(found, betti, tuple(cuts), len(kept))


def farthest_points(points: Float[Tensor, "points dimensions"], count: int) -> Float[Tensor, "kept dimensions"]:
    """As many points, each the farthest from those before it; the first is the one farthest from the mean."""
    if len(points) <= count:
        return points
    at = int((points - points.mean(0)).norm(dim=1).argmax())
    taken, away = [at], (points - points[at]).norm(dim=1)
    while len(taken) < count:
        at = int(away.argmax())
        taken.append(at)
        away = torch.minimum(away, (points - points[at]).norm(dim=1))
    return points[taken]


def _gap(lengths: np.ndarray, spread: float) -> float:
    """The length below which bars are taken for noise."""
    finite = np.sort(lengths[np.isfinite(lengths)])[::-1]
    long = int((finite >= 0.1 * spread).sum())
    if long == 0:
        return 0.1 * spread
    ends = finite[: long + 1] if len(finite) > long else np.append(finite, 0.05 * spread)
    at = int((ends[:-1] / np.maximum(ends[1:], 1e-300)).argmax())
    return float((ends[at] + ends[at + 1]) / 2)


def _resampling_distance(points: Tensor, generator: torch.Generator | None, draws: int = 100) -> float:
    """The 95 % quantile of the distance from the points to the nearest of a resample."""
    distance = torch.cdist(points, points)
    found = []
    for _ in range(draws):
        again = torch.randint(len(points), (len(points),), generator=generator)
        found.append(float(distance[:, again].amin(1).max()))
    return float(np.quantile(found, 0.95))


def _longest_first(bars: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(bars[np.argsort(bars[:, 0] - bars[:, 1], kind="stable")])
