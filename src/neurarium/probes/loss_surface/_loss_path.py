"""The loss along a straight line between two points of parameter space (Goodfellow et al. 2015, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import nn

from neurarium.probes._result import ProbeResult
from neurarium.probes.loss_surface._loss_sweep import Loader, Score, losses_at
from neurarium.probes.loss_surface._parameter_space import Point, grid, named_point


@dataclass(frozen=True)
class LossPath(ProbeResult):
    """Loss at ``(1 - alpha) start + alpha end``.

    The numbers below (`gap`, `barrier` ...) are over alpha in [0, 1] and leave out holes: values of alpha at which the
    loss is not finite (NaN in ``loss``).

    Args:
        alpha: positions, increasing; 0 and 1 are among them.
        loss: mean loss at each.
        error: its standard error from the spread between batches (the same batches at every alpha, so differences
            between neighbours are far more precise than this); NaN for a single batch.
        metric: mean of the second metric, or None.
    """

    alpha: np.ndarray
    loss: np.ndarray
    error: np.ndarray
    metric: np.ndarray | None = None

    @cached_property
    def _inside(self) -> tuple[np.ndarray, np.ndarray]:
        keep = (self.alpha >= 0) & (self.alpha <= 1) & np.isfinite(self.loss)
        return self.alpha[keep], self.loss[keep]

    @property
    def ends(self) -> tuple[float, float]:
        """Loss at alpha 0 and at alpha 1."""
        return float(self.loss[self.alpha == 0][0]), float(self.loss[self.alpha == 1][0])

    @property
    def holes(self) -> np.ndarray:
        """Values of alpha at which the loss is not finite."""
        return self.alpha[~np.isfinite(self.loss)]

    @property
    def gap(self) -> float:
        """Monotonicity gap: the largest rise ``J(alpha') - J(alpha)`` with alpha < alpha'; 0 if it never rises."""
        loss = self._inside[1]
        return float(np.max(loss - np.minimum.accumulate(loss))) if len(loss) else float("nan")

    @property
    def relative_gap(self) -> float:
        """`gap` as a share of the change ``|J(0) - J(1)|`` from end to end."""
        if self.gap == 0:
            return 0.0
        change = abs(self.ends[0] - self.ends[1])
        return self.gap / change if change else float("inf")

    @property
    def barrier(self) -> float:
        """Largest height of the loss above the straight line between its two end values; 0 if it is never above."""
        alpha, loss = self._inside
        first, last = self.ends
        heights = loss - (1 - alpha) * first - alpha * last
        return float(max(np.max(heights), 0.0)) if len(loss) and np.isfinite(first + last) else float("nan")

    @property
    def slope_changes(self) -> int:
        """How often the slope changes its sign."""
        signs = np.sign(np.diff(self._inside[1]))
        signs = signs[signs != 0]
        return int(np.count_nonzero(signs[1:] != signs[:-1]))

    @property
    def second_differences(self) -> np.ndarray:
        """Divided second differences at the inner points of [0, 1]: half the curvature."""
        alpha, loss = self._inside
        slopes = np.diff(loss) / np.diff(alpha)
        return np.diff(slopes) / (alpha[2:] - alpha[:-2])

    @property
    def convex_share(self) -> float:
        """Share of inner points with a positive second difference; NaN where there is none."""
        bends = self.second_differences
        return float(np.mean(bends > 0)) if len(bends) else float("nan")

    def summary(self) -> str:
        """The end values and the obstacle between them."""
        first, last = self.ends
        rises = f"rises by up to {self.gap:.3g} ({self.relative_gap:.1%} of the change)" if self.gap else "never rises"
        text = (
            f"loss {first:.4g} -> {last:.4g}, {rises}; barrier {self.barrier:.3g}; "
            f"{self.slope_changes} slope changes; convex at {self.convex_share:.0%} of the points"
        )
        return text + (f"; not finite at {len(self.holes)} points" if len(self.holes) else "")

    def plot(self, ax: Any) -> Any:
        """Loss over alpha with its standard error, the two ends marked."""
        (line,) = ax.plot(self.alpha, self.loss, marker=".", markersize=3)
        if np.isfinite(self.error).any():
            low, high = self.loss - self.error, self.loss + self.error
            ax.fill_between(self.alpha, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        ax.plot([0, 1], self.ends, "o", color=line.get_color(), fillstyle="none")
        ax.set(xlabel="alpha", ylabel="loss")
        return ax


def loss_along_line(
    model: nn.Module,
    loss: Score,
    loader: Loader,
    start: Point,
    end: Point,
    *,
    points: int | Sequence[float] | np.ndarray = 29,
    span: tuple[float, float] = (-0.2, 1.2),
    metric: Score | None = None,
    recalibrate: bool | Loader | None = None,
) -> LossPath:
    """The loss on the straight line through two points of parameter space.

    Only parameters are interpolated. Buffers are the model's own, except that running statistics of batch normalisation
    are computed anew at every alpha: interpolated ones belong to neither network. Dropout is off. The loader is read
    once (twice where statistics are recomputed), and every alpha sees the same batches; give the full training set or
    one large fixed part of it.

    Args:
        model: any module of the two points' architecture; left as it was, and its own parameters do not matter.
        loss: ``loss(model(x), y) -> scalar``, a mean over the batch.
        loader: batches ``(x, y)``.
        start: alpha = 0: a module, a ``state_dict`` or a parameter vector.
        end: alpha = 1, likewise.
        points: how many equally spaced values of alpha, or the values. 0 and 1 are always added, exactly, and the loss
            there equals direct evaluation bit for bit.
        span: first and last alpha.
        metric: a second score (`neurarium.training.accuracy`).
        recalibrate: see above; False keeps the model's running statistics, a loader computes them on its batches.

    Raises:
        ValueError: the points have other names or shapes than the model (the first one is named), ``span`` does not
            hold [0, 1], there are no batches, or there is nothing to recalibrate.
        TypeError: an integer parameter differs from the model's.
    """
    alpha = grid(points, span)
    basis = [named_point(model, start, "start"), named_point(model, end, "end")]
    coefficients = np.stack([1 - alpha, alpha], axis=1)
    found = losses_at(model, loss, loader, basis, coefficients, metric=metric, recalibrate=recalibrate)
    return LossPath(alpha, found.loss, found.error, found.metric)
