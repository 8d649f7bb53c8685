"""How mixtures of experts and what looks at them are used."""

from __future__ import annotations

from typing import Any

from torch import nn

from neurarium import layers, objectives, probes
from neurarium.testing.world import Example, World
from neurarium.training import training

EXAMPLES: dict[str, Example] = {
    "Routing": lambda w: layers.Routing(w.positive(4, 3), w.whole([0], [1], [2], [0]), w.positive(4, 1)).imbalance(),
    "kan_expert": lambda w: w.new(lambda: layers.kan_expert(8, 4))(w.x(5, 8)),
    "mlp_expert": lambda w: w.new(lambda: layers.mlp_expert(8, 4))(w.x(5, 8)),
    "replace_feed_forward": lambda w: layers.replace_feed_forward(
        w.new(lambda: nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)), lambda d: mixed(w, d)
    ).model(w.x(2, 3, 8)),
    "load_balance": lambda w: balanced(w),
    "routing": lambda w: probes.routing(mixed(w, 8), w.batches()),
    "mixture_cost": lambda w: probes.mixture_cost(mixed(w, 8), w.x(5, 8)),
}


def mixed(w: World, d_model: int) -> Any:
    """One perceptron and one Kolmogorov-Arnold network."""
    return w.new(lambda: layers.MLPKAN(d_model, 1, 1, 4, top_k=1, balance=0.1))


def balanced(w: World) -> Any:
    """The penalty after a pass in training."""
    layer = mixed(w, 8)
    with training(layer):
        layer(w.x(12, 8))
    return objectives.load_balance(layer)
