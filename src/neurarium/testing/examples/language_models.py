"""How language models, their parts and what counts their cost are used."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from neurarium import layers, learning, models, probes
from neurarium.testing.world import Example, ModuleExample, World


def text(w: World) -> Tensor:
    """Two sequences of tokens."""
    return w.whole([1, 2, 3, 4, 5, 6, 7], [4, 5, 6, 7, 8, 9, 10])


def decoder() -> models.RotaryDecoder:
    """Two small layers."""
    return models.RotaryDecoder(11, 8, 2, 2)


def pair() -> list[Any]:
    """The layers of a block."""
    return [layers.DecoderLayer(8, 2) for _ in range(2)]


MODULES: dict[str, ModuleExample] = {
    "DecoderLayer": lambda w: (layers.DecoderLayer(8, 2), (w.x(2, 5, 8),)),
    "RotaryDecoder": lambda w: (decoder(), (text(w),)),
    "LogitMixture": lambda w: (models.LogitMixture([decoder(), decoder()], average="confidence"), (text(w),)),
    "VisualEmbedding": lambda w: (models.visual_embedding("abcdefghijk", 8, cell=16), (text(w),)),
    "EdgeMatrices": lambda w: (layers.EdgeMatrices(3, 4), (w.x(2, 4), w.whole(0, 2))),
    "SignalFlowLanguageModel": lambda w: (models.SignalFlowLanguageModel(11, 4, memory="mixture"), (text(w),)),
    "TLinFormer": lambda w: (models.TLinFormer(decoder(), 2, 2, 3), (text(w),)),
    "TLinFormerBlock": lambda w: (models.TLinFormerBlock(pair(), 2), (w.x(2, 5, 8), w.x(2, 3, 8, seed=1))),
}

EXAMPLES: dict[str, Example] = {
    "SharedEdges": lambda w: layers.SharedEdges.from_counts(models.edge_counts(text(w)[0], 11)).slots,
    "SignalState": lambda w: flowing(w),
    "edge_counts": lambda w: models.edge_counts(text(w)[0], 11),
    "edge_energies": lambda w: probes.edge_energies(w.new(decoder), [(text(w), text(w))]).rank_correlation,
    "frequent_successors": lambda w: models.frequent_successors(models.edge_counts(text(w)[0], 11), 2),
    "LayerGrowth": lambda w: grown(w),
    "PreNormParts": lambda w: whole(w.new(lambda: layers.DecoderLayer(8, 2)).parts(), w.x(2, 5, 8)),
    "WindowCache": lambda w: cached(w),
    "attention_cost": lambda w: probes.attention_cost(w.new(decoder), (4, 8), (4,)).hit,
    "attention_weights": lambda w: watched(w),
    "binary_embedding": lambda w: w.put(models.binary_embedding(11, 8))(text(w)),
    "visual_embedding": lambda w: w.put(models.visual_embedding("abcdefghijk", 8, cell=16))(text(w)),
    "pre_norm_parts": lambda w: whole(layers.pre_norm_parts(w.new(lambda: layers.DecoderLayer(8, 2))), w.x(2, 5, 8)),
}


def whole(parts: layers.PreNormParts, x: Tensor) -> Tensor:
    """A layer put together from its parts."""
    return parts.finish(x, parts.attend(*parts.project(x), causal=True))


def grown(w: World) -> Tensor:
    """A model of two layers at its second stage."""
    model = w.new(decoder)
    learning.LayerGrowth(model).grow()  # puts frozen layers in evaluation mode
    return model.train(w.training)(text(w))


def flowing(w: World) -> Tensor:
    """Energies two tokens on."""
    model, tokens = w.new(lambda: models.SignalFlowLanguageModel(11, 4)), text(w)
    _, state = model.advance(tokens[:, 0])
    return model.advance(tokens[:, 1], state)[0]


def watched(w: World) -> Any:
    """How even the attention of a pass is."""
    model = w.new(decoder)
    return probes.attention_weights(lambda: model(text(w))).entropies


def cached(w: World) -> Tensor:
    """The next token's logits, most of the text being known."""
    model, tokens = w.new(lambda: models.TLinFormer(decoder(), 2, 2, 3)), text(w)
    cache = model.empty_cache()
    model.next_logits(tokens[:, :-1], cache)
    return model.next_logits(tokens, cache)
