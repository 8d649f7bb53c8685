"""How predictors of sequences, code lengths, coded networks and soft preferences are used."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from neurarium import compression, models, objectives, probes, theory
from neurarium.data import Arrays
from neurarium.testing.world import Example, ModuleExample, World

MODULES: dict[str, ModuleExample] = {
    "SoftDegreePolynomial": lambda w: (
        models.SoftDegreePolynomial(4, 0.01).fit(torch.linspace(0, 1, 9), torch.linspace(0, 1, 9)), (w.positive(5),)
    ),
    "SubspaceModel": lambda w: (compression.SubspaceModel(perceptron, 6), (w.x(5, 8),)),
    "TradeoffMixture": lambda w: (models.TradeoffMixture(nn.Linear(8, 3), perceptron()), (w.x(5, 8),)),
    "SequencePredictor": lambda w: (
        models.SequencePredictor(models.CausalTransformer(4, 8, 2, 1, 16, 8), 3), (w.whole([0, 1, 2, 1], [2, 2, 0, 0]),)
    ),
}  # fmt: skip

EXAMPLES: dict[str, Example] = {
    "KT": lambda w: theory.KT(3).log_probs(w.whole([0, 1, 2, 1], [2, 2, 0, 0])),
    "ContextTreeWeighting": lambda w: theory.ContextTreeWeighting(2, 3).log_probs(w.whole([0, 1, 2], [2, 2, 0])),
    "code_model": lambda w: compression.code_model(rounded(w)).bits,
    "degree_penalty": lambda w: objectives.degree_penalty(w.x(2, 4), 0.1),
    "label_code_length": lambda w: labels(w),
    "sequence_preference": lambda w: probes.sequence_preference(
        decoder(w), w.whole([0, 1, 0], [1, 1, 1]), [2, 1], start=2, symbols=(0, 1)
    ),
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


def decoder(w: World) -> Any:
    """A small language model."""
    return w.new(lambda: models.CausalTransformer(3, 8, 2, 1, 16, 6))


def perceptron() -> nn.Module:
    """A classifier for the library to draw."""
    return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))


def rounded(w: World) -> compression.SubspaceModel:
    """A network in a subspace with a codebook."""
    model = compression.SubspaceModel(perceptron, 6)
    with torch.no_grad():
        model.coordinates.copy_(w.x(6).float().cpu())
    model.quantize(4)
    return model.to(w.device, w.dtype)


def labels(w: World) -> Any:
    """A short code of labels."""
    data = Arrays(w.examples(60).float(), w.y(60).long())
    found = compression.label_code_length(perceptron, data, dim=6, epochs=1, tuning_epochs=1)
    return found.naive_bits
