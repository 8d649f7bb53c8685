"""Classifiers compared over many data sets: mean per-class error, ranks, wins, signed-rank tests."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurarium.probes._result import ProbeResult


@dataclass(frozen=True)
class ErrorComparison(ProbeResult):
    """How classifiers compare over data sets; each mapping is by classifier.

    Args:
        mpce: mean over sets of error / number of classes (Wang, Yan and Oates, 2017).
        ranks: arithmetic mean rank, 1 the best, ties shared.
        geometric_ranks: geometric mean rank.
        wins: sets on which none is better.
        p_values: two-sided Wilcoxon signed-rank test of each pair; 1 where the errors are the same everywhere.
        sets: number of data sets.
    """

    mpce: Mapping[str, float]
    ranks: Mapping[str, float]
    geometric_ranks: Mapping[str, float]
    wins: Mapping[str, int]
    p_values: Mapping[tuple[str, str], float]
    sets: int

    def summary(self) -> str:
        """A line for each classifier, best rank first."""
        return "\n".join(
            f"{name}: rank {self.ranks[name]:.2f} (geometric {self.geometric_ranks[name]:.2f}), "
            f"mean per-class error {self.mpce[name]:.4f}, best on {self.wins[name]} of {self.sets} sets"
            for name in sorted(self.ranks, key=lambda name: self.ranks[name])
        )

    def plot(self, ax: Any, level: float = 0.05) -> Any:
        """Mean ranks on a line; a bar joins pairs that the test cannot tell apart (a critical-difference diagram)."""
        names = sorted(self.ranks, key=lambda name: self.ranks[name])
        for place, name in enumerate(names):
            ax.plot([self.ranks[name]] * 2, [0, -1 - place], color="0.6", linewidth=0.8)
            ax.text(self.ranks[name], -1 - place, f" {name}", va="center")
        ax.scatter([self.ranks[name] for name in names], [0] * len(names), zorder=3)
        height = 0.4
        for (a, b), p in self.p_values.items():
            if p >= level:
                ax.plot([self.ranks[a], self.ranks[b]], [height] * 2, color="black", linewidth=3)
                height += 0.4
        ax.set(xlabel="mean rank", yticks=[], ylim=(-1.5 - len(names), height + 0.6))
        return ax


def compare_errors(errors: Mapping[str, Sequence[float]], classes: Sequence[int]) -> ErrorComparison:
    """Compare classifiers over data sets.

    Args:
        errors: classifier -> its error on each data set, in one order.
        classes: number of classes of each data set.

    Raises:
        ValueError: fewer than two classifiers, other numbers of errors than of sets, or an error that is no share.
    """
    from scipy.stats import rankdata, wilcoxon

    names = list(errors)
    if len(names) < 2 or any(len(errors[name]) != len(classes) for name in names) or not len(classes):
        raise ValueError(f"errors needs two classifiers or more with an error for each of the {len(classes)} sets")
    table = np.array([errors[name] for name in names], float)
    if not ((table >= 0) & (table <= 1)).all():
        raise ValueError("an error is a share between 0 and 1")
    ranked = rankdata(table, axis=0)
    p_values = {}
    for i, j in itertools.combinations(range(len(names)), 2):
        same = bool((table[i] == table[j]).all())
        p_values[names[i], names[j]] = 1.0 if same else float(wilcoxon(table[i], table[j]).pvalue)
    best = table.min(0)
    count = np.asarray(classes)
    return ErrorComparison(
        {name: float((table[i] / count).mean()) for i, name in enumerate(names)},
        {name: float(ranked[i].mean()) for i, name in enumerate(names)},
        {name: float(np.exp(np.log(ranked[i]).mean())) for i, name in enumerate(names)},
        {name: int((table[i] == best).sum()) for i, name in enumerate(names)},
        p_values,
        len(classes),
    )
