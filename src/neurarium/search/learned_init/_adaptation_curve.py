"""How fast fields come to follow their signals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neurarium.objectives import psnr
from neurarium.search.learned_init._stacked_fields import StackedFields


@dataclass(frozen=True, eq=False)
class AdaptationCurve:
    """Decibels along a fit.

    Args:
        psnr: after 0, 1, 2, ... steps, of each signal.
    """

    psnr: Float[Tensor, "steps signals"]

    def steps_to(self, level: float) -> Float[Tensor, " signals"]:
        """The first step at which each signal reaches so many decibels; infinite where it does not."""
        reached = self.psnr >= level
        first = reached.to(torch.uint8).argmax(0).to(self.psnr.dtype)
        return torch.where(reached.any(0), first, torch.inf)

    def summary(self) -> str:
        """Decibels at the start, half-way and at the end."""
        mean = self.psnr.mean(1)
        last = len(mean) - 1
        at = sorted({0, last // 2, last})
        return "mean PSNR of the signals: " + ", ".join(f"{float(mean[n]):.2f} dB after {n} steps" for n in at)

    def plot(self, ax: Any) -> None:
        """A line for each signal, and their mean."""
        ax.plot(self.psnr, color="0.8", linewidth=0.8)
        ax.plot(self.psnr.mean(1), color="C0")
        ax.set_xlabel("steps")
        ax.set_ylabel("PSNR (dB)")


def adaptation_curve(fits: Iterable[StackedFields], points: Any, signals: Tensor, peak: float = 1.0) -> AdaptationCurve:
    """Compare the fields along a fit with the whole signals.

    Args:
        fits: as `LearnedInitialization.adaptation` yields them.
        points: where all signals are known [points, dimensions].
        signals: their values there [signals, points, channels].
        peak: the largest value that a signal can have.
    """
    return AdaptationCurve(torch.stack([psnr(fields(points), signals, peak) for fields in fits]).cpu())
