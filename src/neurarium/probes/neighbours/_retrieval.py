"""How well nearest neighbours classify: against their number, and against the number of items remembered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurarium.probes._result import ProbeResult
from neurarium.probes.neighbours._neighbours import Vote, nearest, tally, unit


@dataclass(frozen=True)
class KnnAccuracyCurve(ProbeResult):
    """Accuracy of a vote of the nearest neighbours, by their number.

    Args:
        accuracies: with 1, 2, ... k neighbours.
        vote: the kind of vote.
    """

    accuracies: tuple[float, ...]
    vote: str

    @property
    def best(self) -> float:
        """Highest accuracy of any number of neighbours."""
        return max(self.accuracies)

    def summary(self) -> str:
        """Best and last accuracy."""
        at = self.accuracies.index(self.best) + 1
        return (
            f"{self.vote} vote: {self.best:.3f} with {at} neighbours, "
            f"{self.accuracies[-1]:.3f} with {len(self.accuracies)}"
        )

    def plot(self, ax: Any) -> Any:
        """Accuracy against the number of neighbours."""
        ax.plot(range(1, len(self.accuracies) + 1), self.accuracies, label=self.vote)
        ax.set(xlabel="neighbours", ylabel="accuracy")
        ax.legend()
        return ax


def knn_accuracy_curve(
    features: Tensor, labels: Tensor, queries: Tensor, query_labels: Tensor, *, k: int = 100, vote: str = "rank"
) -> KnnAccuracyCurve:
    """Accuracy with 1 to ``k`` cosine neighbours, in one search.

    Args:
        features: remembered embeddings, [items, features].
        labels: their classes, [items].
        queries: embeddings to classify, [queries, features].
        query_labels: their classes, [queries].
        k: most neighbours; 100 by default.
        vote: ``"rank"``, ``"plurality"``, ``"distance"`` or ``"softmax"``.

    Raises:
        ValueError: ``k`` is not between 1 and the number of items, or an embedding is zero or not finite.
    """
    if not 1 <= k <= len(features):
        raise ValueError(f"k must be between 1 and the number of items, {len(features)}, not {k}")
    similar, rows = nearest(unit(queries, "queries"), unit(features, "features"), k)
    classes = int(labels.max()) + 1
    winners = tally(labels[rows], Vote(vote).weights(similar), classes)[1]
    right = (winners == query_labels[:, None]).double().mean(0)
    return KnnAccuracyCurve(tuple(right.tolist()), vote)


@dataclass(frozen=True)
class MemoryScaling(ProbeResult):
    """Error of a vote of neighbours, by the number of items remembered.

    Args:
        sizes: numbers of items.
        errors: share of queries classified wrongly.
    """

    sizes: tuple[int, ...]
    errors: tuple[float, ...]

    @property
    def exponent(self) -> float:
        """b in error ~ size^b: the slope of log error against log size, over sizes with any error."""
        return self._slope(np.log)

    @property
    def log_exponent(self) -> float:
        """a in error ~ (log size)^a, the form that the authors fit."""
        return self._slope(lambda size: np.log(np.log(size)))

    def _slope(self, scale: Callable[[np.ndarray], np.ndarray]) -> float:
        seen = np.array([(n, e) for n, e in zip(self.sizes, self.errors, strict=True) if e > 0])
        return float(np.polyfit(scale(seen[:, 0]), np.log(seen[:, 1]), 1)[0]) if len(seen) > 1 else float("nan")

    def summary(self) -> str:
        """First and last error, and the exponent."""
        return (
            f"error {self.errors[0]:.3f} with {self.sizes[0]:,} items, {self.errors[-1]:.3f} with "
            f"{self.sizes[-1]:,}; about size^{self.exponent:.2f}"
        )

    def plot(self, ax: Any) -> Any:
        """Error against size, both logarithmic."""
        ax.loglog(self.sizes, self.errors, marker="o")
        ax.set(xlabel="items remembered", ylabel="error")
        return ax


def memory_scaling(
    features: Tensor,
    labels: Tensor,
    queries: Tensor,
    query_labels: Tensor,
    sizes: Sequence[int],
    *,
    k: int = 10,
    vote: str = "rank",
    generator: torch.Generator | None = None,
) -> MemoryScaling:
    """Error against the number of remembered items, drawn at random so that a smaller memory is part of a larger one.

    Args:
        features: embeddings to draw from, [items, features].
        labels: their classes, [items].
        queries: embeddings to classify, [queries, features].
        query_labels: their classes, [queries].
        sizes: numbers of items, increasing.
        k: neighbours that vote; all, where there are fewer.
        vote: the kind of vote.
        generator: of the order in which items are drawn; torch's global state by default.

    Raises:
        ValueError: sizes are empty, not increasing, or larger than the number of items.
    """
    if not sizes or list(sizes) != sorted(set(sizes)) or not 1 <= sizes[0] <= sizes[-1] <= len(features):
        raise ValueError(f"sizes must increase from at least 1 to at most {len(features)} items, not {list(sizes)}")
    order = torch.randperm(len(features), generator=generator)
    errors = []
    for size in sizes:
        chosen = order[:size]
        curve = knn_accuracy_curve(
            features[chosen], labels[chosen], queries, query_labels, k=min(k, size), vote=vote
        )  # fmt: skip
        errors.append(1 - curve.accuracies[-1])
    return MemoryScaling(tuple(sizes), tuple(errors))
