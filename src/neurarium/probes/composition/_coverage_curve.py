"""How many examples a task of compositions needs until its new combinations are covered."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neurarium.data import CompositionTask
from neurarium.probes._result import ProbeResult
from neurarium.probes.composition._coverage import coverage


@dataclass(frozen=True)
class CoverageCurve(ProbeResult):
    """Share of new combinations of known parts that is covered, by the number of training items.

    Args:
        sizes: numbers of training items.
        shares: of covered test items, for 1, 2 ... shared contexts [sizes, levels].
    """

    sizes: tuple[int, ...]
    shares: Float[Tensor, "sizes levels"]

    def required(self, evidence: int, share: float = 0.5) -> float:
        """Training items at which the share is reached, by interpolation over the logarithm; NaN beyond the curve."""
        found = self.shares[:, evidence - 1].tolist()
        for (a, low), (b, high) in itertools.pairwise(zip(self.sizes, found, strict=True)):
            if low < share <= high:
                return math.exp(math.log(a) + (share - low) / (high - low) * math.log(b / a))
        return math.nan

    def summary(self) -> str:
        """Where half is covered."""
        levels = range(1, self.shares.shape[1] + 1)
        return "half covered at " + ", ".join(f"{self.required(k):.0f} items (evidence {k})" for k in levels)

    def plot(self, ax: Any) -> Any:
        """A line per level of evidence."""
        for level, shares in enumerate(self.shares.T, start=1):
            ax.plot(self.sizes, shares.tolist(), label=f"{level} shared contexts")
        ax.set_xscale("log")
        ax.set_xlabel("training items")
        ax.set_ylabel("share covered")
        ax.legend()
        return ax


def coverage_curve(
    task: CompositionTask,
    sizes: Sequence[int],
    *,
    evidence: int = 3,
    tests: int = 500,
    subsets: Sequence[Sequence[int]] | None = None,
    generator: torch.Generator | None = None,
) -> CoverageCurve:
    """Coverage of the tests of kind "all seen" as training items are added; nothing is trained.

    Args:
        task: draws the items.
        sizes: numbers of training items, increasing.
        evidence: the largest number of shared contexts.
        tests: test items.
        subsets: as in `coverage`.
        generator: of the items.

    Raises:
        ValueError: sizes do not increase.
    """
    if any(b <= a for a, b in itertools.pairwise(sizes)) or not sizes:
        raise ValueError("sizes must increase")
    generator = generator or torch.Generator().manual_seed(0)
    shares = torch.zeros(len(sizes), evidence, dtype=torch.float64)
    for i, size in enumerate(sizes):
        split = task.sample(size, generator, tests)
        new = split.tests.get("all seen")
        if new is None:
            continue  # all combinations of seen parts were trained on, or none is made of seen parts alone
        found = coverage(split.train.x, split.train.y, new.x, new.y, evidence=evidence, subsets=subsets)
        shares[i] = torch.stack([found.covered(k).double().mean() for k in range(1, evidence + 1)])
    return CoverageCurve(tuple(int(size) for size in sizes), shares)


def required_data(
    task: CompositionTask,
    evidence: int = 1,
    *,
    share: float = 0.5,
    tests: int = 500,
    precision: float = 0.02,
    generator: torch.Generator | None = None,
) -> int:
    """Training items at which a share of the new combinations of known parts is covered, by bisection.

    Args:
        task: draws the items.
        evidence: shared contexts that every swap must rest on.
        share: to be covered.
        tests: test items.
        precision: relative, of the answer.
        generator: of the items.

    Raises:
        ValueError: evidence is below 1, or so many items as there are do not reach the share.
    """
    if evidence < 1:
        raise ValueError(f"evidence must be at least 1, not {evidence}")
    generator = generator or torch.Generator().manual_seed(0)

    def reached(size: int) -> bool:
        curve = coverage_curve(task, [size], evidence=evidence, tests=tests, generator=generator)
        return float(curve.shares[0, evidence - 1]) >= share

    low, high = task.n, 2 * task.n
    while not reached(high):
        low, high = high, 2 * high
    while high > low * (1 + precision):
        middle = round(math.sqrt(low * high))
        if middle in (low, high):
            break
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
