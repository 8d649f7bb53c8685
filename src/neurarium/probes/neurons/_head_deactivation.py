"""Neurons that switch attention heads off: they turn a head's query towards the first token's key.

A head that looks at the first token (beginning of text) writes next to nothing. A neuron below the head whose output
weights push the query that way therefore silences it (Gurnee et al., 2024, section 5.3). The score reads that off the
weights; the path ablation takes the neuron out of one layer's queries only and looks whether the head wakes up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult
from neurarium.probes.neurons._neuron_statistics import networks_of, neuron_name, output_rows
from neurarium.probes.similarity._units import INPUT, run, tokens_of
from neurarium.training import evaluation


@dataclass(frozen=True)
class HeadDeactivation(ProbeResult):
    """Push of each neuron on each head's attention to the first token.

    Args:
        scores: [neurons, layers of attention, heads], per unit of activation and up to the norm's positive factor; NaN
            where the head does not lie behind the neuron.
        layers: names of the layers of neurons.
        sizes: neurons of each.
        attention: names of the attention modules.
    """

    scores: Float[Tensor, "neurons layers heads"]
    layers: tuple[str, ...]
    sizes: tuple[int, ...]
    attention: tuple[str, ...]

    def strongest(self, count: int = 5) -> list[tuple[int, int, int]]:
        """(neuron, layer of attention, head) of the highest scores."""
        _, layers, heads = self.scores.shape
        flat = self.scores.nan_to_num(-torch.inf).flatten().topk(count).indices.tolist()
        return [(i // (layers * heads), i // heads % layers, i % heads) for i in flat]

    def summary(self) -> str:
        """The strongest neurons and their heads."""
        lines = ["neurons that push a head towards the first token, strongest first:"]
        for neuron, layer, head in self.strongest():
            score = float(self.scores[neuron, layer, head])
            name = neuron_name(neuron, self.layers, self.sizes)
            lines.append(f"  {name} on head {head} of {self.attention[layer]}: {score:+.3f}")
        return "\n".join(lines)

    def plot(self, ax: Any) -> Any:
        """Histogram of the scores, by layer of attention."""
        for layer, name in enumerate(self.attention):
            found = self.scores[:, layer]
            found = found[found.isfinite()].cpu()
            if len(found):
                ax.hist(found.numpy(), bins=80, histtype="step", label=name)
        ax.set_yscale("log")
        ax.set(xlabel="push on the first token's score", ylabel="neurons x heads")
        ax.legend(fontsize="x-small")
        return ax


@dataclass(frozen=True)
class PathAblation(ProbeResult):
    """What a head does with a neuron in its query, and without, at every token after the first.

    Args:
        activation: of the neuron.
        before: attention to the first token, with the neuron.
        after: without it in the query; keys and values are those of the whole model.
    """

    activation: Float[Tensor, " tokens"]
    before: Float[Tensor, " tokens"]
    after: Float[Tensor, " tokens"]

    @property
    def correlation(self) -> float:
        """Of the activation with the attention to the first token that it causes."""
        return float(torch.corrcoef(torch.stack([self.activation, self.before - self.after]))[0, 1])

    def summary(self) -> str:
        """One sentence."""
        return (
            f"attention to the first token {float(self.before.mean()):.3f}, without the neuron in the query "
            f"{float(self.after.mean()):.3f}; its activation correlates by {self.correlation:+.2f} with the difference"
        )

    def plot(self, ax: Any) -> Any:
        """The attention that the neuron causes, against its activation."""
        ax.scatter(self.activation.cpu(), (self.before - self.after).cpu(), s=4, linewidths=0)
        ax.axhline(0, color="grey", linewidth=0.8)
        ax.set(xlabel="activation of the neuron", ylabel="attention to the first token that it causes")
        return ax


@torch.no_grad()
def head_deactivation(model: nn.Module, first_token: int) -> HeadDeactivation:
    """k' W_Q w_out / sqrt(d) for the first token's key k, each neuron's w_out, and each head of a later layer.

    Args:
        model: a pre-norm decoder with `nn.TransformerEncoderLayer` blocks (`CausalTransformer` is one).
        first_token: id of the token that begins every text.

    Raises:
        ValueError: the model has no such blocks.
    """
    blocks = _blocks(model)
    networks = networks_of(model)
    order = [name for name, _ in model.named_modules()]
    kept: dict[str, Tensor] = {}
    _watch(model, blocks, torch.tensor([[first_token]]), kept)
    scores = []
    for tap, parts in networks.items():
        out = output_rows(parts)
        rows = []
        for name, block in blocks.items():
            query, key, _ = _projections(block.self_attn)
            heads = block.self_attn.num_heads
            if order.index(tap.removesuffix(INPUT)) > order.index(name):
                rows.append(out.new_full((len(out), heads), torch.nan))
                continue
            normed = kept[f"{name}.attention"][0, 0].double()
            k = (key[0] @ normed + key[1]).view(heads, -1)
            pushed = (out - out.mean(1, keepdim=True)) * block.norm1.weight.double()
            q = (pushed @ query[0].T).view(len(out), heads, -1)
            rows.append(torch.einsum("nhd,hd->nh", q, k) / k.shape[1] ** 0.5)
        scores.append(torch.stack(rows, 1))
    sizes = tuple(len(part) for part in scores)
    return HeadDeactivation(torch.cat(scores), tuple(networks), sizes, tuple(f"{name}.self_attn" for name in blocks))


@torch.no_grad()
def path_ablation(
    model: nn.Module, layer: str, neuron: int, attention: str, head: int, batches: Iterable[Any]
) -> PathAblation:
    """Take a neuron's output out of one attention layer's queries only, and compare attention to the first token.

    Args:
        model: as in `head_deactivation`.
        layer: the neuron's layer, as `HeadDeactivation.layers` names it.
        neuron: its place there.
        attention: name of a later attention module, as `HeadDeactivation.attention` names it.
        head: of that module.
        batches: token ids, as in `excess_correlation`.

    Raises:
        ValueError: an unknown layer, attention module, neuron or head, or no batches.
    """
    blocks, networks = _blocks(model), networks_of(model)
    name = attention.removesuffix(".self_attn")
    if layer not in networks or name not in blocks:
        known = ", ".join([*networks, *(f"{block}.self_attn" for block in blocks)])
        raise ValueError(f"layer and attention must be among {known}")
    block = blocks[name]
    out = output_rows(networks[layer])
    if not 0 <= neuron < len(out) or not 0 <= head < block.self_attn.num_heads:
        raise ValueError(f"there are {len(out)} neurons and {block.self_attn.num_heads} heads")
    query, key, width = _projections(block.self_attn)
    part = slice(head * width, (head + 1) * width)
    found: list[Tensor] = []
    for batch in batches:
        kept: dict[str, Tensor] = {}
        _watch(model, {name: block}, batch, kept, layer)
        residual, normed = kept[f"{name}.residual"].double(), kept[f"{name}.attention"].double()
        activation = kept["neurons"][..., neuron].double()
        without = _norm(block.norm1, residual - activation[..., None] * out[neuron])
        k = normed @ key[0][part].T + key[1][part]
        mask = torch.ones(k.shape[1], k.shape[1], dtype=torch.bool, device=k.device).triu(1)
        first = []
        for x in (normed, without):
            weights = (x @ query[0][part].T + query[1][part]) @ k.transpose(1, 2) / width**0.5
            first.append(weights.masked_fill(mask, -torch.inf).softmax(-1)[:, 1:, 0].flatten())
        found.append(torch.stack([activation[:, 1:].flatten(), *first]))
    if not found:
        raise ValueError("batches gave nothing")
    return PathAblation(*torch.cat(found, 1).cpu())


def _blocks(model: nn.Module) -> dict[str, Any]:
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.TransformerEncoderLayer)
        and module.norm_first
        and isinstance(module.norm1, nn.LayerNorm)
    }
    if not found:
        raise ValueError("the model has no pre-norm nn.TransformerEncoderLayer, which this probe reads")
    return found


def _projections(attention: nn.MultiheadAttention) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], int]:
    """(W, b) of queries and of keys, and the width of a head."""
    weight = attention.in_proj_weight.double()
    bias = weight.new_zeros(len(weight)) if attention.in_proj_bias is None else attention.in_proj_bias.double()
    queries, keys, _ = zip(weight.chunk(3), bias.chunk(3), strict=True)
    return queries, keys, attention.head_dim


def _norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    bias = None if norm.bias is None else norm.bias.double()
    return nn.functional.layer_norm(x, norm.normalized_shape, norm.weight.double(), bias, norm.eps)


def _watch(model: nn.Module, blocks: dict[str, Any], batch: Any, kept: dict[str, Tensor], layer: str = "") -> None:
    """One pass; keeps what enters each block's first norm and its attention, and a layer's neurons."""

    def keep(name: str, value: Tensor) -> None:
        kept[name] = value

    handles = []
    for name, block in blocks.items():
        handles.append(block.norm1.register_forward_pre_hook(lambda _, a, n=name: keep(f"{n}.residual", a[0])))
        handles.append(block.norm1.register_forward_hook(lambda _, __, y, n=name: keep(f"{n}.attention", y)))
    if layer:
        reader = model.get_submodule(layer.removesuffix(INPUT))
        handles.append(reader.register_forward_pre_hook(lambda _, args: keep("neurons", args[0])))
    try:
        with evaluation(model):
            run(model, tokens_of(batch) if not layer else batch)
    finally:
        for handle in handles:
            handle.remove()
