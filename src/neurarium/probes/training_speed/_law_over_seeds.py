"""A power law of depth and width through rates measured at several seeds, with intervals over the seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurarium.probes._result import ProbeResult
from neurarium.probes.training_speed._power_law import PowerLaw, learning_rate_law


@dataclass(frozen=True)
class LawOverSeeds(ProbeResult):
    """The law through all seeds' rates, and how far it would move with other seeds.

    Args:
        law: the fit through the rates of all seeds; its own interval resamples single measurements.
        interval: 95 % interval of the exponent of depth x width, by resampling seeds.
        constant_interval: the same for the constant.
        depth_minus_width: exponent of depth less that of width, where they may differ.
        depth_minus_width_interval: 95 % interval of it, by resampling seeds.
        seeds: how many.
    """

    law: PowerLaw
    interval: tuple[float, float]
    constant_interval: tuple[float, float]
    depth_minus_width: float
    depth_minus_width_interval: tuple[float, float]
    seeds: int

    @property
    def product_form(self) -> bool:
        """Whether depth and width may count alike: 0 lies in the interval of the exponents' difference."""
        low, high = self.depth_minus_width_interval
        return low <= 0 <= high

    def predict(self, depth: int, width: int) -> float:
        """The rate for another size."""
        return self.law.predict(depth, width)

    def summary(self) -> str:
        """The law in one line."""
        (low, high), (least, most) = self.interval, self.depth_minus_width_interval
        return (
            f"rate = {self.law.constant:.3g} (depth x width)^-{self.law.exponent:.2f} [{low:.2f}, {high:.2f}] over "
            f"{self.seeds} seeds, R2 {self.law.r2:.2f}; exponent of depth less that of width "
            f"{self.depth_minus_width:.2f} [{least:.2f}, {most:.2f}]"
        )

    def plot(self, ax: Any) -> Any:
        """Rates against depth times width, with the fit."""
        return self.law.plot(ax)


def law_over_seeds(
    seeds: Sequence[Mapping[tuple[int, int], float]], resamples: int = 1000, *, seed: int = 0
) -> LawOverSeeds:
    """Fit one power law of depth x width to the rates of several seeds, and resample the seeds for its intervals.

    The networks of one seed share images, batches and draws, so their errors go together. Resampling single
    measurements, as `learning_rate_law` does, is then too wary where seeds differ in level, too sure where in slope.

    Args:
        seeds: for each seed the rates by (depth, width); those that are not finite (censored) are left out.
        resamples: bootstrap resamples.
        seed: of the resampling.

    Raises:
        ValueError: fewer than two seeds, or too few finite rates for a law.
    """
    if len(seeds) < 2:
        raise ValueError(f"seeds must hold the rates of at least two seeds, not {len(seeds)}")
    rows = [[(d, n, r) for (d, n), r in rates.items() if math.isfinite(r) and r > 0] for rates in seeds]
    law = learning_rate_law([row for own in rows for row in own])
    moments = np.array([_moments(own) for own in rows])
    drawn = np.random.default_rng(seed).integers(len(rows), size=(resamples, len(rows)))
    fits = np.array([fit for sums in moments[drawn].sum(1) if (fit := _fit(sums)) is not None])
    low, high = np.quantile(fits, [0.025, 0.975], axis=0)
    return LawOverSeeds(
        law, (float(low[0]), float(high[0])), (float(np.exp(low[1])), float(np.exp(high[1]))),
        law.depth_exponent - law.width_exponent, (float(low[2]), float(high[2])), len(rows),
    )  # fmt: skip


def _moments(rows: Sequence[tuple[int, int, float]]) -> Any:
    """Sums of products of (log depth, log width, 1, log rate): what a least-squares fit needs of a seed."""
    if not rows:
        return np.zeros((4, 4))
    depth, width, rate = np.log(np.array(rows, dtype=float)).T
    columns = np.stack([depth, width, np.ones_like(depth), rate], 1)
    return columns.T @ columns


def _fit(sums: Any) -> tuple[float, float, float] | None:
    """Exponent and log constant of the product's law, and the difference of the two exponents, from summed moments."""
    product = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    inner, outer = sums[:3, :3], sums[:3, 3]
    folded = product @ inner @ product.T
    if np.linalg.matrix_rank(folded) < 2:
        return None
    slope, intercept = np.linalg.solve(folded, product @ outer)
    depth, width, _ = np.linalg.lstsq(inner, outer, rcond=None)[0]
    return -slope, intercept, width - depth
