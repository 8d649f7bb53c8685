"""How probes of units and neurons are used: matches between networks, Rosetta and universal neurons."""

from __future__ import annotations

from typing import Any

from torch import nn

from neurarium import models, probes
from neurarium.data import token_features
from neurarium.testing.examples._shared import seed
from neurarium.testing.world import Example, World

EXAMPLES: dict[str, Example] = {
    "align_permutation": lambda w: probes.align_permutation(
        w.mlp(8, 4, 3), "0", w.whole(3, 1, 0, 2), w.x(6, 8)
    )(w.x(5, 8)),
    "co_cluster": lambda w: probes.co_cluster(table(w), 2),
    "match_units": lambda w: probes.match_units(table(w)),
    "sparse_mapping": lambda w: probes.sparse_mapping(table(w), (0.1, 0.01)),
    "few_shot_accuracy": lambda w: probes.few_shot_accuracy(
        w.classifier(), w.batches(4), ways=2, shots=2, queries=2, episodes=3, generator=seed()
    ).accuracy,
    "excess_correlation": lambda w: probes.excess_correlation(decoder(w), decoder(w, 1), texts(w), pairs="matching"),
    "neuron_statistics": lambda w: probes.neuron_statistics(decoder(w), texts(w)),
    "neuron_roles": lambda w: probes.neuron_roles(decoder(w)),
    "explain_neurons": lambda w: probes.explain_neurons(
        decoder(w), texts(w), token_features([chr(97 + i) for i in range(11)])
    ),
    "intervene": lambda w: probes.intervene(decoder(w), {"layers.0.linear2:input": [1]}, texts(w), values=(0.0, 2.0)),
    "head_deactivation": lambda w: probes.head_deactivation(decoder(w), 2),
    "path_ablation": lambda w: probes.path_ablation(
        decoder(w), "layers.0.linear2:input", 1, "layers.1.self_attn", 0, texts(w)
    ),
    "mine_rosetta": lambda w: mined(w),
    "guided_inversion": lambda w: inverted(w),
}  # fmt: skip


def table(w: World) -> probes.CorrelationTable:
    """Correlations of the hidden units of two networks."""
    loader = [w.examples(12, seed) for seed in range(4)]
    a, b = (w.mlp(8, 5, 3, seed=seed) for seed in (0, 1))
    return probes.unit_correlations(a, b, loader, layers_a=["0"], layers_b=["0"], within=True)[("0", "0")]


def decoder(w: World, seed: int = 0) -> nn.Module:
    """A small language model of eleven tokens."""
    return w.new(lambda: models.CausalTransformer(11, 8, 2, 2, 16), seed)


def texts(w: World) -> list[Any]:
    """Two batches of token ids."""
    return [(w.x(3, 9, seed=seed) * 5).long().abs() % 11 for seed in (0, 1)]


def images_net(w: World, seed: int = 0) -> nn.Module:
    """A network of images with maps of activations."""
    return w.new(lambda: nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3)), seed)


def mined(w: World) -> probes.RosettaDictionary:
    """Units of one network found in another."""
    loader = [w.x(8, 1, 6, 6, seed=seed) for seed in (0, 1)]
    return probes.mine_rosetta(images_net(w), {"b": images_net(w, 1)}, loader, null_quantile=0.0)


def inverted(w: World) -> Any:
    """Latents whose image follows given ones."""
    generator = w.new(
        lambda: nn.Sequential(nn.Linear(3, 16), nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 1, 3, padding=1))
    )
    return probes.guided_inversion(generator, w.x(2, 3), images=w.x(2, 1, 4, 4), steps=3)
