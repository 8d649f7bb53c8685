"""Noticing from the loss that the task has changed."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

LOGARITHM = 0.8  # of the deviations; with 1 a switch went unseen where losses near 0 make their logarithms spread


@dataclass
class ContextDetector:
    """Each context's recent losses, and whether a new one still belongs to them.

    A context is trusted once its confidence k, which grows as k <- k + growth (1 - k) with every batch, exceeds
    ``threshold``. A trusted context is over when a loss exceeds ``ratio`` times the mean of its last ``window`` losses
    (the rule of the released code, made for losses that hardly vary) or, where ``ratio`` is None, that mean by more
    than ``deviations`` standard deviations, and its logarithm by four fifths of that: losses of batches have heavier
    tails than a normal variable, on one scale or on the other.

    Args:
        growth: of the confidence; 0.005 trusts a context after 460 batches.
        threshold: confidence from which a switch is possible.
        window: losses remembered.
        ratio: see above.
        deviations: see above.
    """

    growth: float = 0.005
    threshold: float = 0.9
    window: int = 50
    ratio: float | None = None
    deviations: float = 5.0
    losses: list[deque[float]] = field(default_factory=list)
    confidence: list[float] = field(default_factory=list)

    def open(self) -> int:
        """A new context; returns its number."""
        self.losses.append(deque(maxlen=self.window))
        self.confidence.append(0.0)
        return len(self.losses) - 1

    def note(self, context: int, loss: float) -> None:
        """A loss that belongs to the context."""
        self.losses[context].append(loss)
        self.confidence[context] += self.growth * (1 - self.confidence[context])

    def trusted(self, context: int) -> bool:
        """Whether the context has been seen for long enough to tell."""
        return self.confidence[context] > self.threshold

    def fits(self, context: int, loss: float) -> bool:
        """Whether a loss looks like the context's own recent ones."""
        recent = self.losses[context]
        if not recent:
            return False
        mean = sum(recent) / len(recent)
        if self.ratio is not None:
            return loss <= self.ratio * mean
        if loss <= mean + self.deviations * max(_deviation(recent), 1e-3 * abs(mean)):
            return True
        if min(recent) <= 0:
            return False
        logs = [math.log(value) for value in recent]
        return math.log(loss) <= sum(logs) / len(logs) + LOGARITHM * self.deviations * _deviation(logs)

    def state(self) -> dict[str, list[list[float]] | list[float]]:
        """Plain lists, for a checkpoint."""
        return {"losses": [list(values) for values in self.losses], "confidence": list(self.confidence)}

    def restore(self, losses: list[list[float]], confidence: list[float]) -> None:
        """Back to a checkpoint's state."""
        self.losses = [deque(values, maxlen=self.window) for values in losses]
        self.confidence = list(confidence)


def _deviation(values: Collection[float]) -> float:
    mean = sum(values) / len(values)
    return (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
