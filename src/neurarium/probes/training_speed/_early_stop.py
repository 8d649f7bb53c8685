"""The early-stopping iteration: how fast a network learns, as one number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from neurarium.probes._result import ProbeResult


@dataclass(frozen=True)
class EarlyStop(ProbeResult):
    """Where the validation loss is lowest.

    Args:
        iteration: training iteration of the lowest loss; the first one where several tie.
        loss: the lowest validation loss.
        censored: the lowest loss is the last one measured, so a longer training might stop later.
        iterations: when the loss was measured, ascending.
        losses: the validation loss there.
    """

    iteration: int
    loss: float
    censored: bool
    iterations: tuple[int, ...]
    losses: tuple[float, ...]

    def summary(self) -> str:
        """One sentence."""
        limit = " (the last one measured: train longer to be sure)" if self.censored else ""
        return f"validation loss is lowest, {self.loss:.4g}, at iteration {self.iteration}{limit}"

    def plot(self, ax: Any) -> Any:
        """The validation loss with its minimum marked."""
        ax.plot(self.iterations, self.losses)
        ax.plot([self.iteration], [self.loss], "o")
        ax.set_xlabel("iteration")
        ax.set_ylabel("validation loss")
        return ax


def early_stop(iterations: Sequence[int], losses: Sequence[float]) -> EarlyStop:
    """The iteration of minimum validation loss (the lottery-ticket paper's measure of learning speed, its Section 2).

    The finer the grid, the finer the answer: the paper measures every 100 of 50,000 iterations.

    Args:
        iterations: when the loss was measured, strictly ascending.
        losses: validation loss there; values that are not finite (a diverged run) are never the minimum.

    Raises:
        ValueError: the two differ in length, are empty, are not in order, or no loss is finite.
    """
    steps, values = tuple(int(i) for i in iterations), tuple(float(loss) for loss in losses)
    if not steps or len(steps) != len(values):
        raise ValueError(f"need one loss per iteration and at least one: got {len(steps)} and {len(values)}")
    if any(later <= sooner for sooner, later in pairwise(steps)):
        raise ValueError("iterations must be strictly ascending")
    finite = [i for i, loss in enumerate(values) if math.isfinite(loss)]
    if not finite:
        raise ValueError("no loss is finite; the training diverged")
    best = min(finite, key=lambda i: values[i])
    return EarlyStop(steps[best], values[best], best == len(steps) - 1 and len(steps) > 1, steps, values)
