"""How classifiers learn from crowds, and what is done with their labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neurarium import learning, objectives, probes
from neurarium.testing.world import Example, ModuleExample, World


def classifier() -> nn.Module:
    """Three classes from 8 inputs."""
    return nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3))


def crowd_labels(w: World) -> Tensor:
    """Three annotators of whom one is wrong now and then and one says nothing of the second half."""
    y = w.y()
    late = torch.where(torch.arange(12, device=y.device) < 6, y, -torch.ones_like(y))
    return torch.stack([y, y.roll(1), late], 1)


class Loss(nn.Module):
    """A method's loss as a module's output, for the checks of modules."""

    def __init__(self, crowd: objectives.CrowdModel) -> None:
        super().__init__()
        self.crowd = crowd

    def forward(self, x: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and logits."""
        return self.crowd.loss(x, said), self.crowd(x)


def made(kind: Any) -> ModuleExample:
    """A method around a classifier, with a batch."""
    return lambda w: (Loss(kind(classifier(), 3)), (w.examples(), crowd_labels(w)))


MODULES: dict[str, ModuleExample] = {
    "AnnotatorPerformance": lambda w: (objectives.AnnotatorPerformance(3, 3, 8), (w.x(5, 8),)),
    "AnnotatorWeights": lambda w: (objectives.AnnotatorWeights(), (w.x(5, 4),)),
    "MaDL": made(objectives.MaDL),
    "CrowdLayer": made(objectives.CrowdLayer),
    "TraceRegularised": made(objectives.TraceRegularised),
    "UnionNet": made(objectives.UnionNet),
    "CommonConfusion": made(objectives.CommonConfusion),
    "LowRankConfusion": made(objectives.LowRankConfusion),
}

EXAMPLES: dict[str, Example] = {
    "majority_vote": lambda w: learning.majority_vote(
        w.whole(0, 0, 0, 1), w.whole(1, 1, 0, 2), 2, 3, torch.Generator().manual_seed(0)
    ),
    "dawid_skene": lambda w: learning.dawid_skene(
        w.whole(0, 0, 1, 1), w.whole(0, 1, 0, 1), w.whole(1, 1, 0, 1), 2, 2, 2
    ),
    "annotator_report": lambda w: probes.annotator_report(trained(w), w.examples()),
    "crowd_scores": lambda w: probes.crowd_scores(trained(w), w.examples(), w.y(), crowd_labels(w)),
}


def trained(w: World) -> Any:
    """A small MaDL."""
    return w.new(lambda: objectives.MaDL(classifier(), 3))
