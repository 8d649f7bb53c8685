"""Whether two classifiers err on the same examples more than their accuracies alone would have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from neurarium.probes._result import ProbeResult


@dataclass(frozen=True)
class ErrorConsistency(ProbeResult):
    """Cohen's kappa of two classifiers' being right (Geirhos et al., 2020).

    Args:
        kappa: 1 for the same mistakes, 0 for as many in common as by chance; not a number where both are always right.
        observed: share of examples on which both are right or both wrong.
        expected: that share if the mistakes were independent.
    """

    kappa: float
    observed: float
    expected: float

    def summary(self) -> str:
        """Kappa and the two shares."""
        return f"kappa {self.kappa:.2f}: right or wrong together on {self.observed:.2f}, {self.expected:.2f} by chance"

    def plot(self, ax: Any) -> Any:
        """Observed and expected share."""
        ax.bar(["observed", "by chance"], [self.observed, self.expected])
        ax.set(ylabel="right or wrong together")
        return ax


def error_consistency(outputs_a: Tensor, outputs_b: Tensor, y: Tensor) -> ErrorConsistency:
    """Error consistency of two classifiers on the same examples.

    Args:
        outputs_a: scores [examples, classes] of one.
        outputs_b: scores [examples, classes] of the other.
        y: classes [examples].

    Raises:
        ValueError: another number of examples.
    """
    if not len(outputs_a) == len(outputs_b) == len(y):
        raise ValueError(f"there are {len(outputs_a)} and {len(outputs_b)} outputs for {len(y)} examples")
    right_a, right_b = outputs_a.argmax(-1) == y, outputs_b.argmax(-1) == y
    a, b = float(right_a.double().mean()), float(right_b.double().mean())
    observed = float((right_a == right_b).double().mean())
    expected = a * b + (1 - a) * (1 - b)
    kappa = (observed - expected) / (1 - expected) if expected < 1 else float("nan")
    return ErrorConsistency(kappa, observed, expected)
