"""How chain graphs and their nodes are used."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from neurarium import theory
from neurarium.testing.examples._shared import seed
from neurarium.testing.world import Example, ModuleExample, World


def net() -> nn.Sequential:
    """Two hidden layers, one of them exact to sum over."""
    return nn.Sequential(nn.Linear(8, 6), nn.Sigmoid(), nn.Dropout(0.2), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


MODULES: dict[str, ModuleExample] = {
    "ChainGraph": lambda w: (theory.ChainGraph(net(), "categorical"), (w.x(4, 8),)),
}

EXAMPLES: dict[str, Example] = {
    "Categorical": lambda w: theory.Categorical().mean(w.x(4, 3), w.positive(4, 3)),
    "Certain": lambda w: theory.Certain(torch.tanh).variance(w.x(4, 3), w.positive(4, 3)),
    "Gated": lambda w: theory.Gated(torch.sigmoid).mean(w.x(4, 3), w.positive(4, 3)),
    "Gaussian": lambda w: theory.Gaussian(0.5).log_prob(w.x(4, 3), w.x(4, 3, seed=1)),
    "Node": lambda w: theory.TwoValued().log_prob(w.x(4, 3).sign(), w.x(4, 3, seed=1)),
    "Rectified": lambda w: theory.Rectified().mean(w.x(4, 3), w.positive(4, 3)),
    "TwoValued": lambda w: theory.TwoValued().mean(w.x(4, 3), w.positive(4, 3)),
    "feedforward_gap": lambda w: theory.feedforward_gap(graph(w), w.x(4, 8), 8, seed()).total_variation,
    "InferenceGap": lambda w: theory.feedforward_gap(graph(w), w.x(4, 8), 8, seed()).layers,
    "Layer": lambda w: [layer.node.mean(w.x(4, 3)) for layer in graph(w).layers.values()],
    "node_of": lambda w: theory.node_of(nn.Tanh()).mean(w.x(4, 3)),  # type: ignore[union-attr]
}


def graph(w: World) -> Any:
    """Of a small network."""
    return theory.ChainGraph(w.new(net), "categorical")
