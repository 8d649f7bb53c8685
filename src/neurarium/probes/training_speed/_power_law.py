"""How the largest learning rate falls with depth and width: a power law through measured rates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurarium.probes._result import ProbeResult


@dataclass(frozen=True)
class PowerLaw(ProbeResult):
    """rate = constant * (depth * width)^-exponent, and the same with an exponent each.

    Args:
        constant: c.
        exponent: a.
        interval: 95 % interval of a, by resampling the measurements.
        r2: share of the variance of the logarithms that the product explains.
        depth_exponent: of depth, where it may differ from that of width.
        width_exponent: of width.
        points: (depth, width, rate) that were fitted.
    """

    constant: float
    exponent: float
    interval: tuple[float, float]
    r2: float
    depth_exponent: float
    width_exponent: float
    points: tuple[tuple[int, int, float], ...]

    def predict(self, depth: int, width: int) -> float:
        """The rate for another size."""
        return self.constant * (depth * width) ** -self.exponent

    def summary(self) -> str:
        """The law in one line."""
        return (
            f"rate = {self.constant:.3g} (depth x width)^-{self.exponent:.2f} "
            f"[{self.interval[0]:.2f}, {self.interval[1]:.2f}], R2 {self.r2:.2f}; alone: depth^-"
            f"{self.depth_exponent:.2f}, width^-{self.width_exponent:.2f}"
        )

    def plot(self, ax: Any) -> Any:
        """Rates against depth times width, with the fit."""
        sizes = sorted({d * n for d, n, _ in self.points})
        ax.loglog([d * n for d, n, _ in self.points], [r for *_, r in self.points], "o")
        ax.loglog(sizes, [self.constant * s**-self.exponent for s in sizes])
        ax.set(xlabel="depth x width", ylabel="largest rate")
        return ax


def learning_rate_law(
    results: Mapping[tuple[int, int], float] | Sequence[tuple[int, int, float]], resamples: int = 500
) -> PowerLaw:
    """Fit a power law of depth x width to measured rates, in logarithms, by least squares.

    Args:
        results: rates by (depth, width), or rows (depth, width, rate); infinite (censored) rates are left out.
        resamples: bootstrap resamples for the interval.

    Raises:
        ValueError: fewer than three finite rates, or all at one depth x width.
    """
    rows = [(d, n, r) for (d, n), r in results.items()] if isinstance(results, Mapping) else list(results)
    rows = [row for row in rows if math.isfinite(row[2]) and row[2] > 0]
    if len(rows) < 3 or len({d * n for d, n, _ in rows}) < 2:
        raise ValueError("a law needs at least three finite rates at different depth x width")
    depth, width, rate = np.log(np.array(rows, dtype=float)).T
    size = depth + width
    slope, intercept = np.polyfit(size, rate, 1)
    residual = rate - (slope * size + intercept)
    both = np.linalg.lstsq(np.stack([depth, width, np.ones_like(depth)], 1), rate, rcond=None)[0]
    draws = np.random.default_rng(0).integers(len(rows), size=(resamples, len(rows)))
    slopes = [-np.polyfit(size[d], rate[d], 1)[0] for d in draws if np.ptp(size[d]) > 1e-9]
    low, high = np.quantile(slopes, [0.025, 0.975])
    variance = ((rate - rate.mean()) ** 2).sum()
    return PowerLaw(
        float(np.exp(intercept)), float(-slope), (float(low), float(high)),
        float(1 - (residual**2).sum() / variance) if variance > 0 else 1.0, float(-both[0]), float(-both[1]),
        tuple((int(d), int(n), float(r)) for d, n, r in rows),
    )  # fmt: skip
