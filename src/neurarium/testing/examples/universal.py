"""How sources of sequences, their predictors and their code lengths are used."""

from __future__ import annotations

from typing import Any

from torch import nn

from neurarium import models, objectives, probes, theory
from neurarium.testing.world import Example, ModuleExample, World

MODULES: dict[str, ModuleExample] = {
    "SequencePredictor": lambda w: (
        models.SequencePredictor(models.CausalTransformer(4, 8, 2, 1, 16, 8), 3), (w.whole([0, 1, 2, 1], [2, 2, 0, 0]),)
    ),
}  # fmt: skip

EXAMPLES: dict[str, Example] = {
    "KT": lambda w: theory.KT(3).log_probs(w.whole([0, 1, 2, 1], [2, 2, 0, 0])),
    "ContextTreeWeighting": lambda w: theory.ContextTreeWeighting(2, 3).log_probs(w.whole([0, 1, 2], [2, 2, 0])),
    "code_length": lambda w: probes.code_length(predictor(w), w.whole([0, 1, 2, 1], [2, 2, 0, 0])),
    "cumulative_log_loss": lambda w: objectives.cumulative_log_loss(
        w.logp(2, 4, 3), w.whole([0, 1, 2, 1], [2, 2, 0, -100])
    ),
}  # fmt: skip


def predictor(w: World) -> Any:
    """A small recurrent one."""

    def make() -> nn.Module:
        cell = models.SequenceReadout(nn.GRU(6, 6, batch_first=True), nn.Linear(6, 3))
        return models.SequencePredictor(nn.Sequential(nn.Embedding(4, 6), cell), 3)

    return w.new(make)
