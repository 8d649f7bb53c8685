"""Whether an error falls exponentially with a size, as a power of it, or first one and then the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurarium.probes._result import ProbeResult


@dataclass(frozen=True)
class ErrorPhases(ProbeResult):
    """Two fits, joined where they explain the errors best.

    Args:
        sizes: number of functions, sensors, modes ..., ascending.
        errors: the error at each.
        rate: a in ``error ~ exp(-a size)`` up to ``switch``; NaN where there is no such phase.
        exponent: b in ``error ~ size^b`` from ``switch`` on; NaN where there is no such phase.
        switch: the last size of the first phase: the smallest size where all is a power, the largest where all is
            exponential.
        residual: root of the mean squared distance of log error from the fits.
    """

    sizes: tuple[float, ...]
    errors: tuple[float, ...]
    rate: float
    exponent: float
    switch: float
    residual: float

    def summary(self) -> str:
        """One sentence."""
        parts = []
        if not math.isnan(self.rate):
            parts.append(f"exp(-{self.rate:.3g} size) up to {self.switch:g}")
        if not math.isnan(self.exponent):
            parts.append(f"size^{self.exponent:.2f} from {self.switch:g} on")
        return f"the error falls as {', then as '.join(parts)} (log error is {self.residual:.2g} off)"

    def plot(self, ax: Any) -> Any:
        """Errors and both fits."""
        ax.loglog(self.sizes, self.errors, "o")
        x, y = np.array(self.sizes), np.log(self.errors)
        for scale, slope, part in (
            (np.array, -self.rate, x <= self.switch), (np.log, self.exponent, x >= self.switch),
        ):  # fmt: skip
            if not math.isnan(slope):
                ax.loglog(x[part], np.exp(y[part].mean() + slope * (scale(x[part]) - scale(x[part]).mean())))
        ax.set(xlabel="size", ylabel="error")
        return ax


def error_phases(sizes: Sequence[float], errors: Sequence[float]) -> ErrorPhases:
    """Fit an exponential phase followed by a power law (Lu et al. 2021, figure 5), either of which may be missing.

    A phase is a line through at least three errors, in log error over size, or over log size; the error at the
    switch belongs to both. Of all switches the one with the smallest squared residual is taken; two phases must halve
    that of the better single one.

    Args:
        sizes: ascending and above 0.
        errors: above 0.

    Raises:
        ValueError: fewer than three errors, another number of sizes, sizes not ascending, or a value not above 0.
    """
    x, e = np.asarray(sizes, float), np.asarray(errors, float)
    if len(x) != len(e) or len(x) < 3:
        raise ValueError(f"need at least three errors and a size for each, not {len(e)} and {len(x)}")
    if not (np.isfinite(e).all() and (e > 0).all() and x[0] > 0 and (np.diff(x) > 0).all()):
        raise ValueError("sizes must be ascending, and sizes and errors above 0 and finite")
    y, n = np.log(e), len(x)
    exponential, power = _line(x, y), _line(np.log(x), y)
    best = min(
        ((exponential[1], -exponential[0], math.nan, x[-1]), (power[1], math.nan, power[0], x[0])), key=lambda f: f[0]
    )
    for cut in range(2, n - 2):
        first, second = _line(x[: cut + 1], y[: cut + 1]), _line(np.log(x[cut:]), y[cut:])
        total = first[1] + second[1]
        if total < min(best[0], 0.5 * min(exponential[1], power[1])):
            best = (total, -first[0], second[0], x[cut])
    return ErrorPhases(
        tuple(x.tolist()), tuple(e.tolist()), float(best[1]), float(best[2]), float(best[3]), math.sqrt(best[0] / n)
    )


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and squared residuals of the line through some points."""
    slope, level = np.polyfit(x, y, 1)
    return float(slope), float(np.square(y - slope * x - level).sum())
