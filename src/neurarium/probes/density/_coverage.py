"""Which of the data's modes samples fall on, and which example each is nearest to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurarium.probes._result import ProbeResult


@dataclass(frozen=True)
class ModeCoverage(ProbeResult):
    """Samples by the class of their nearest example.

    Args:
        shares: of samples in each class.
        expected: of examples in each class.
        nearest: index of each sample's nearest example.
        distance: to it.
        least: share of what is expected from which a class counts as covered.
    """

    shares: Float[Tensor, " classes"]
    expected: Float[Tensor, " classes"]
    nearest: Int[Tensor, " samples"]
    distance: Float[Tensor, " samples"]
    least: float = 0.2

    @property
    def covered(self) -> int:
        """Classes that get at least a fifth of what they would get from the data."""
        return int((self.shares > self.least * self.expected).sum())

    @property
    def divergence(self) -> float:
        """Kullback-Leibler divergence of the shares from the expected ones, in nats: 0 where all are as in the data."""
        return float(torch.xlogy(self.shares, self.shares / self.expected.clamp_min(1e-12)).sum())

    def summary(self) -> str:
        """How many classes are covered, and how evenly."""
        return (
            f"{self.covered} of {len(self.shares)} modes covered, divergence of their shares {self.divergence:.3f} "
            f"nats, mean distance to the nearest example {float(self.distance.mean()):.3g}"
        )

    def plot(self, ax: Any) -> Any:
        """Shares beside the expected ones."""
        places = torch.arange(len(self.shares))
        ax.bar((places - 0.2).numpy(), self.expected.cpu().numpy(), 0.4, label="data")
        ax.bar((places + 0.2).numpy(), self.shares.cpu().numpy(), 0.4, label="samples")
        ax.set_xlabel("mode")
        ax.set_ylabel("share")
        ax.legend()
        return ax


def mode_coverage(
    samples: Float[Tensor, "samples ..."], x: Float[Tensor, "examples ..."], y: Int[Tensor, " examples"]
) -> ModeCoverage:
    """The class of each sample by its nearest example: a mode that no sample falls on was dropped.

    Args:
        samples: of a model.
        x: examples, or the centres of a mixture.
        y: their classes (or modes).

    Raises:
        ValueError: shapes that differ.
    """
    if samples.shape[1:] != x.shape[1:]:
        raise ValueError(
            f"samples of {list(samples.shape[1:])} cannot be compared with examples of {list(x.shape[1:])}"
        )
    parts = [torch.cdist(some, x.flatten(1)).min(1) for some in samples.flatten(1).split(1000)]
    nearest, distance = torch.cat([p.indices for p in parts]), torch.cat([p.values for p in parts])
    names, place = y.unique(return_inverse=True)
    expected, found = (torch.bincount(rows, minlength=len(names)).to(distance) for rows in (place, place[nearest]))
    return ModeCoverage(found / len(samples), expected / len(x), nearest, distance)
