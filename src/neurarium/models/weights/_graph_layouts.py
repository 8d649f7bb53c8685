"""How the neurons of known layers hang together: `neural_graph(module)`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from neurarium.models.sequence._causal_transformer import CausalTransformer
from neurarium.models.weights._graph_builder import GraphBuilder, LayoutError
from neurarium.models.weights._neuron_graph import NeuralGraph

Neurons = Tensor | None
"""Nodes that a layer reads or feeds; None before the first one, which makes its own."""
Layout = Callable[["_Layouts", Any, Neurons], Neurons]
Pair = tuple[Tensor | None, Tensor | None]
"""Places of a weight [out, in] and of its bias."""


def neural_graph(
    module: nn.Module, *, heads: int | None = None, fallback: Literal["edges-only"] | None = None
) -> NeuralGraph:
    """The graph of a module's neurons, one edge for each parameter.

    Known are linear, convolutional, embedding and norm layers; torch's attention and transformer layers;
    `CausalTransformer`; the GPT-2 and Llama families of the transformers library (by their layers' names, grouped
    queries included). Any other container is taken as a chain of its children in the order in which they were
    registered, as long as their sizes fit; its skip connections are then not in the graph.

    Attention: query and key neurons of a head are the same nodes, reached by the query weights and left by the key
    weights laid out transposed; each head is a node joined to its query and its value neurons. Where several query
    heads share a key head, the key neurons are nodes of their own, joined to the query neurons that they meet.

    Args:
        module: any network; nothing is run.
        heads: attention heads, where the module itself does not say.
        fallback: "edges-only" gives every tensor that is not understood edges between neurons of its own, with a
            warning that names them.

    Raises:
        ValueError: without a fallback, a layer is unknown or does not follow the one before; the message names it.
    """
    builder = GraphBuilder(module)
    if not builder.count:
        raise ValueError("module has no parameters")
    layouts = _Layouts(builder, heads, fallback is not None, {m: name for name, m in module.named_modules()})
    layouts.visit(module, None)
    for parameter in module.parameters():
        if parameter.dim() == 0:
            builder.alone(parameter)
    remaining = builder.remaining()
    if remaining and fallback is None:
        raise ValueError(f"the neurons of {_some(remaining)} cannot be told; pass fallback='edges-only'")
    for parameter in module.parameters():
        builder.alone(parameter)
    if builder.unknown:
        warnings.warn(f"the neurons of {_some(builder.unknown)} cannot be told; each has some of its own", stacklevel=2)
    return builder.graph()


@dataclass
class _Layouts:
    builder: GraphBuilder
    heads: int | None
    lenient: bool
    names: dict[nn.Module, str]

    def visit(self, module: nn.Module, neurons: Neurons) -> Neurons:
        """Put a module behind ``neurons``; returns the ones it feeds."""
        if next(module.parameters(), None) is None:
            return neurons  # activations, pooling, dropout: neuron by neuron
        before = self.builder.state()
        layout = next((layout for knows, layout in LAYOUTS if knows(module)), None)
        try:
            if layout is not None:
                return layout(self, module, neurons)
            own = [name for name, p in module.named_parameters(recurse=False) if p.dim()]
            if own:
                raise LayoutError(
                    f"{self.name(module)} ({type(module).__name__}) is not a layer whose neurons are known: its "
                    f"{_some(own)} cannot be told; pass fallback='edges-only'"
                )
        except LayoutError:
            if not self.lenient:
                raise
            self.builder.back(before)
            for parameter in module.parameters():
                self.builder.alone(parameter)
            return None
        return self.chain(module.children(), neurons)

    def chain(self, modules: Iterable[nn.Module], neurons: Neurons) -> Neurons:
        """One module behind the other."""
        for module in modules:
            neurons = self.visit(module, neurons)
        return neurons

    def name(self, module: nn.Module) -> str:
        return self.names.get(module) or "the module itself"

    def entering(self, neurons: Neurons, size: int, where: nn.Module) -> Tensor:
        """The neurons a layer reads, which must be ``size``."""
        if neurons is None:
            return self.builder.nodes(size)
        if len(neurons) != size:
            raise LayoutError(
                f"{self.name(where)} reads {size} neurons, but the layer before it has {len(neurons)}: the "
                f"children of its container are no chain; pass fallback='edges-only'"
            )
        return neurons

    def pair(self, layer: nn.Module) -> Pair:
        """Weight [out, in, ...] and bias of a linear layer (transposed where it is stored as [in, out])."""
        weight = self.builder.places(layer.get_parameter("weight"))
        bias = self.builder.places(getattr(layer, "bias", None))
        transposed = type(layer).__name__ == "Conv1D" or isinstance(layer, _ConvTransposeNd)
        return (weight.transpose(0, 1) if weight is not None and transposed else weight), bias

    def dense(self, pair: Pair, sources: Tensor, targets: Tensor, kind: str = "linear") -> Tensor:
        """A weight and its bias between known neurons."""
        self.builder.weight(pair[0], sources, targets, kind)
        self.builder.vector(pair[1], targets, "bias")
        return targets

    def norm(self, norm: nn.Module, neurons: Tensor) -> None:
        """Factors and offsets of a norm over neurons."""
        for parameter, kind in ((getattr(norm, "weight", None), "norm"), (getattr(norm, "bias", None), "bias")):
            if parameter is not None and parameter.numel() != len(neurons):
                raise LayoutError(f"{self.name(norm)} norms {parameter.numel()} neurons, but the layer before it has "
                                  f"{len(neurons)}; pass fallback='edges-only'")  # fmt: skip
            self.builder.vector(self.builder.places(parameter), neurons, kind)

    def attention(
        self, projections: Sequence[Pair], out: Pair, neurons: Tensor, heads: int, key_heads: int, *, width: int
    ) -> Tensor:
        """Self-attention from ``neurons`` to new ones, with the skip path around it.

        Args:
            projections: queries, keys and values.
            out: the output projection.
            width: neurons of all query heads together.
        """
        b = self.builder
        size = width // heads
        query, value, head = b.nodes(width), b.nodes(key_heads * size), b.nodes(heads).repeat_interleave(size)
        read = value.view(key_heads, 1, size).expand(-1, heads // key_heads, -1).flatten()  # what each head mixes
        b.joined(head, query, "head")
        b.joined(head, read, "head")
        key = query
        if key_heads != heads:
            key = b.nodes(key_heads * size)
            b.joined(key.view(key_heads, 1, size).expand(-1, heads // key_heads, -1).flatten(), query, "head")
        self.dense(projections[0], neurons, query, "query")
        places, bias = projections[1]
        b.weight(None if places is None else places.transpose(0, 1), key, neurons, "key")
        # the softmax does not see it; the released networks know it where the transposed weights lead
        b.vector(bias, neurons if bias is not None and len(bias) == len(neurons) else key, "bias")
        self.dense(projections[2], neurons, value, "value")
        targets = b.nodes(len(neurons))
        self.dense(out, read, targets)
        b.joined(neurons, targets, "residual")
        return targets

    def feed_forward(self, into: Sequence[Pair], out: Pair, neurons: Tensor, width: int) -> Tensor:
        """A feed-forward network (two weights into the same neurons if it is gated) and the skip path around it."""
        hidden, targets = self.builder.nodes(width), self.builder.nodes(len(neurons))
        for pair in into:
            self.dense(pair, neurons, hidden)
        self.dense(out, hidden, targets)
        self.builder.joined(neurons, targets, "residual")
        return targets

    def head_count(self, found: Any, where: nn.Module) -> int:
        if not isinstance(found if self.heads is None else self.heads, int):
            raise LayoutError(f"{self.name(where)} does not say how many heads it has; give heads=")
        return self.heads or found


def _linear(at: _Layouts, layer: nn.Linear, neurons: Neurons) -> Neurons:
    weight, bias = at.pair(layer)
    out_features, in_features = layer.weight.shape if type(layer).__name__ != "Conv1D" else layer.weight.T.shape
    if neurons is not None and in_features % len(neurons) == 0:
        sources = neurons  # behind a flatten every neuron is read several times: as a kernel is
    else:
        sources = at.entering(neurons, in_features, layer)
    if weight is None:
        return None  # tied to an earlier one: no edges, no neurons
    weight = weight.reshape(out_features, len(sources), -1)
    return at.dense((weight, bias), sources, at.builder.nodes(out_features))


def _convolution(at: _Layouts, layer: _ConvNd, neurons: Neurons) -> Tensor:
    sources = at.entering(neurons, layer.in_channels, layer)
    targets = at.builder.nodes(layer.out_channels)
    weight, bias = at.pair(layer)
    if isinstance(layer, _ConvTransposeNd) and layer.groups > 1:
        raise LayoutError(f"{at.name(layer)} is a transposed convolution in groups; pass fallback='edges-only'")
    if weight is not None:
        parts = zip(weight.chunk(layer.groups), sources.chunk(layer.groups), targets.chunk(layer.groups))
        for places, from_, to in parts:
            at.builder.weight(places, from_, to, "convolution")
    at.builder.vector(bias, targets, "bias")
    return targets


def _norm(at: _Layouts, layer: nn.Module, neurons: Neurons) -> Tensor:
    here = at.entering(neurons, layer.get_parameter("weight").numel(), layer)
    at.norm(layer, here)
    return here


def _embedding(at: _Layouts, layer: nn.Embedding, neurons: Neurons) -> Tensor:
    if neurons is not None:
        raise LayoutError(f"{at.name(layer)} is an embedding behind another layer; pass fallback='edges-only'")
    return _tokens(at, layer, at.builder.nodes(layer.embedding_dim))


def _tokens(at: _Layouts, layer: nn.Embedding, targets: Tensor, kind: str = "token embedding") -> Tensor:
    weight = at.builder.places(layer.weight)
    if weight is not None:
        sources = at.builder.nodes(layer.num_embeddings, tokens=kind == "token embedding")
        at.builder.weight(weight.T, sources, targets, kind)
    return targets


def _multihead(at: _Layouts, layer: nn.MultiheadAttention, neurons: Neurons) -> Tensor:
    sources = at.entering(neurons, layer.embed_dim, layer)
    weight = at.builder.places(layer.in_proj_weight)
    if weight is None or layer.bias_k is not None:
        raise LayoutError(f"{at.name(layer)} projects keys or values of its own; pass fallback='edges-only'")
    bias = at.builder.places(layer.in_proj_bias)
    pairs = list(zip(weight.chunk(3), [None] * 3 if bias is None else bias.chunk(3)))
    return at.attention(
        pairs, at.pair(layer.out_proj), sources, layer.num_heads, layer.num_heads, width=layer.embed_dim
    )


def _encoder_layer(at: _Layouts, layer: Any, neurons: Neurons) -> Tensor:
    """torch's layer, and those that keep its names."""
    first = at.entering(neurons, layer.self_attn.embed_dim, layer)
    second = _multihead(at, layer.self_attn, first)
    up, down = at.pair(layer.linear1), at.pair(layer.linear2)
    third = at.feed_forward([up], down, second, layer.linear1.out_features)
    before = getattr(layer, "norm_first", True)
    at.norm(layer.norm1, first if before else second)
    at.norm(layer.norm2, second if before else third)
    return third


def _causal_transformer(at: _Layouts, model: CausalTransformer, neurons: Neurons) -> Neurons:
    targets = _tokens(at, model.tokens, at.builder.nodes(model.tokens.embedding_dim))
    places = at.builder.places(model.positions)
    if places is not None:
        at.builder.weight(places.T, at.builder.nodes(model.context), targets, "position embedding")
    return at.chain([*model.layers, model.norm, model.head], targets)


def _gpt2(at: _Layouts, model: Any, neurons: Neurons) -> Neurons:
    targets = _tokens(at, model.wte, at.builder.nodes(model.wte.embedding_dim))
    _tokens(at, model.wpe, targets, "position embedding")
    return at.chain([*model.h, model.ln_f], targets)


def _gpt2_block(at: _Layouts, block: Any, neurons: Neurons) -> Tensor:
    width = block.attn.c_proj.weight.shape[1]
    here = at.entering(neurons, block.attn.c_attn.weight.shape[0], block)
    at.norm(block.ln_1, here)
    weight, bias = at.pair(block.attn.c_attn)
    if weight is None:
        raise LayoutError(f"{at.name(block)} shares its attention weights; pass fallback='edges-only'")
    pairs = list(zip(weight.chunk(3), [None] * 3 if bias is None else bias.chunk(3)))
    heads = at.head_count(getattr(block.attn, "num_heads", None), block.attn)
    second = at.attention(pairs, at.pair(block.attn.c_proj), here, heads, heads, width=width)
    at.norm(block.ln_2, second)
    hidden = block.mlp.c_fc.weight.shape[1]
    return at.feed_forward([at.pair(block.mlp.c_fc)], at.pair(block.mlp.c_proj), second, hidden)


def _llama(at: _Layouts, model: Any, neurons: Neurons) -> Neurons:
    targets = _tokens(at, model.embed_tokens, at.builder.nodes(model.embed_tokens.embedding_dim))
    return at.chain([*model.layers, model.norm], targets)


def _llama_block(at: _Layouts, block: Any, neurons: Neurons) -> Tensor:
    attn, mlp = block.self_attn, block.mlp
    width, features = attn.q_proj.weight.shape
    here = at.entering(neurons, features, block)
    at.norm(block.input_layernorm, here)
    size = getattr(attn, "head_dim", None)
    heads = at.head_count(width // size if size else getattr(attn, "num_heads", None), attn)
    key_heads = attn.k_proj.weight.shape[0] * heads // width
    pairs = [at.pair(attn.q_proj), at.pair(attn.k_proj), at.pair(attn.v_proj)]
    second = at.attention(pairs, at.pair(attn.o_proj), here, heads, key_heads, width=width)
    at.norm(block.post_attention_layernorm, second)
    into = [at.pair(mlp.gate_proj), at.pair(mlp.up_proj)]
    return at.feed_forward(into, at.pair(mlp.down_proj), second, mlp.up_proj.weight.shape[0])


def _has(*names: str) -> Callable[[nn.Module], bool]:
    return lambda module: all(isinstance(getattr(module, name, None), nn.Module) for name in names)


def _is(*kinds: type) -> Callable[[nn.Module], bool]:
    return lambda module: isinstance(module, kinds)


def _vector_norm(module: nn.Module) -> bool:
    """Also the RMS norms that libraries write for themselves."""
    known = isinstance(module, (_NormBase, _BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm))
    own = {name: p.dim() for name, p in module.named_parameters()}
    return (known or "Norm" in type(module).__name__) and all(own.get(n, 1) == 1 for n in own) and "weight" in own


LAYOUTS: list[tuple[Callable[[nn.Module], bool], Layout]] = [
    (_is(nn.Linear), _linear),
    (lambda module: type(module).__name__ == "Conv1D", _linear),
    (_is(_ConvNd), _convolution),
    (_is(nn.Embedding), _embedding),
    (_vector_norm, _norm),
    (_is(nn.MultiheadAttention), _multihead),
    (_has("self_attn", "linear1", "linear2", "norm1", "norm2"), _encoder_layer),
    (_is(CausalTransformer), _causal_transformer),
    (_has("wte", "wpe", "h", "ln_f"), _gpt2),
    (_has("ln_1", "attn", "ln_2", "mlp"), _gpt2_block),
    (_has("embed_tokens", "layers", "norm"), _llama),
    (_has("input_layernorm", "self_attn", "post_attention_layernorm", "mlp"), _llama_block),
]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
