"""How the components of `neurarium.continual` are used."""

from __future__ import annotations

from typing import Any

from torch import nn

from neurarium import continual
from neurarium.testing.world import Example, World

EXAMPLES: dict[str, Example] = {
    "StreamClassifier": lambda w: stream(w),
    "updated_availability": lambda w: continual.updated_availability(w.positive(5), w.positive(5, seed=1)),
}  # fmt: skip


def stream(w: World) -> Any:
    """Classes named by words after two batches."""
    learner = continual.StreamClassifier(nn.Flatten(), continual.NearestMeanClassifier())
    learner.partial_fit(w.examples(), w.y().tolist())
    return learner.predict_scores(w.examples(6, seed=1))
