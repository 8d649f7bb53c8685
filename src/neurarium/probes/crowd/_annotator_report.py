"""What a model has learned of its annotators, and how right it is about classes and annotators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from neurarium.objectives import MaDL
from neurarium.probes._result import ProbeResult
from neurarium.training import evaluation


@dataclass(frozen=True)
class AnnotatorReport(ProbeResult):
    """Accuracy, weight and embedding of each annotator, and who is nearest.

    Args:
        accuracy: expected share of right labels over the examples [annotators].
        weights: of the annotators in the loss, 1 on the mean [annotators].
        embeddings: [annotators, features].
        nearest: the annotator with the most similar embedding [annotators].
        similarity: exp(-gamma |distance|²) to that one; 1 for a copy [annotators].
        confusion: mean P(annotation | true class) over the examples [annotators, classes, classes].
    """

    accuracy: Tensor
    weights: Tensor
    embeddings: Tensor
    nearest: Tensor
    similarity: Tensor
    confusion: Tensor

    def summary(self) -> str:
        """The best, the worst, and the least weighted."""
        low, high = self.accuracy.min(0), self.accuracy.max(0)
        light = int(self.weights.argmin())
        return (
            f"{len(self.accuracy)} annotators: the best is {int(high.indices)} ({float(high.values):.1%} right), the "
            f"worst {int(low.indices)} ({float(low.values):.1%}); the lightest is {light} "
            f"(weight {float(self.weights[light]):.2f}, nearest to {int(self.nearest[light])})"
        )

    def plot(self, ax: Any) -> Any:
        """Expected accuracy against weight."""
        ax.scatter(self.weights.cpu(), self.accuracy.cpu())
        ax.set(xlabel="weight in the loss", ylabel="expected accuracy", ylim=(0, 1))
        return ax


@torch.no_grad()
def annotator_report(model: MaDL, x: Any) -> AnnotatorReport:
    """What a trained `MaDL` says of its annotators, over some examples.

    Args:
        model: the classifier with its annotators.
        x: examples, as the classifier takes them.
    """
    with evaluation(model):
        accuracy = model.annotator_accuracy(x).mean(0)
        confusion = model.confusion(x).mean(0)
    e = model.performance.embeddings()
    squared = (e.square().sum(1)[:, None] + e.square().sum(1) - 2 * e @ e.mT).clamp_min(0).fill_diagonal_(torch.inf)
    gamma = 1.0 if model.weights is None else float(model.weights.gamma.clamp_min(1e-3))
    distance, nearest = squared.min(1)
    return AnnotatorReport(accuracy, model.annotator_weights(), e, nearest, torch.exp(-gamma * distance), confusion)


@dataclass(frozen=True)
class CrowdScores(ProbeResult):
    """How right a model is about classes and about who labels them rightly.

    Args:
        accuracy: of the classes.
        log_loss: of the same.
        brier: of the same, summed over classes.
        annotator_balanced_accuracy: of telling right labels from wrong ones.
        annotator_log_loss: of the same.
        annotator_brier: of the same.
    """

    accuracy: float
    log_loss: float
    brier: float
    annotator_balanced_accuracy: float
    annotator_log_loss: float
    annotator_brier: float

    def summary(self) -> str:
        """Both accuracies with their losses."""
        return (
            f"classes: {self.accuracy:.3f} right, log-loss {self.log_loss:.3f}, Brier {self.brier:.3f}; annotators: "
            f"balanced accuracy {self.annotator_balanced_accuracy:.3f}, log-loss {self.annotator_log_loss:.3f}, Brier "
            f"{self.annotator_brier:.3f}"
        )

    def plot(self, ax: Any) -> Any:
        """Two bars."""
        ax.bar(["classes", "annotators (balanced)"], [self.accuracy, self.annotator_balanced_accuracy])
        ax.set(ylabel="accuracy", ylim=(0, 1))
        return ax


@torch.no_grad()
def crowd_scores(model: MaDL, x: Any, y: Tensor, annotations: Tensor, attributes: Tensor | None = None) -> CrowdScores:
    """Scores of a trained `MaDL` on examples whose true classes and annotations are known.

    Args:
        model: the classifier with its annotators.
        x: examples, as the classifier takes them.
        y: their true classes [examples].
        annotations: labels [examples, annotators], -1 where there is none.
        attributes: of annotators that were not learned from, where the labels are theirs.

    Raises:
        ValueError: no label that could be judged.
    """
    given = annotations >= 0
    if not bool(given.any()):
        raise ValueError("annotations must hold at least one label")
    with evaluation(model):
        p = model.predict_proba(x).double()
        trusted = model.annotator_accuracy(x, attributes).double()[given]
    y = y.long()
    right = (annotations == y[:, None])[given]
    judged = trusted > 0.5
    parts = [(judged == right)[right == side].double().mean() for side in (True, False) if bool((right == side).any())]
    q = trusted.clamp(1e-12, 1 - 1e-12)
    return CrowdScores(
        float((p.argmax(1) == y).double().mean()),
        float(-p.gather(1, y[:, None]).clamp_min(1e-12).log().mean()),
        float((p - one_hot(y, p.shape[1])).square().sum(1).mean()),
        float(torch.stack(parts).mean()),
        float(-torch.where(right, q.log(), (1 - q).log()).mean()),
        float((q - right.double()).square().mean()),
    )
