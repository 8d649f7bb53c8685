"""Rank, row sums and signs of attention weights, beside those of the scores they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.layers import LearnableAttention
from neurarium.probes._result import ProbeResult
from neurarium.training import call, evaluation


@dataclass(frozen=True)
class AttentionSpectrum(ProbeResult):
    """One row for each attention layer, means over examples and heads.

    Args:
        layers: names of the layers.
        scores: singular values of the scores, as shares of the largest, in falling order.
        weights: the same of the weights.
        score_rank: stable rank of the scores, squared Frobenius norm by squared spectral norm.
        weight_rank: stable rank of the weights.
        row_sums: mean sum of a row of weights.
        row_sum_deviations: standard deviation of these sums.
        negative: share of the weights that are below 0.
        score_range: largest absolute score; where it is large, high frequencies answer small changes at random.
        parameters: number of the operator's parameters.
        maps: weights of the first example, averaged over heads.
    """

    layers: tuple[str, ...]
    scores: Float[Tensor, "layers values"]
    weights: Float[Tensor, "layers values"]
    score_rank: tuple[float, ...]
    weight_rank: tuple[float, ...]
    row_sums: tuple[float, ...]
    row_sum_deviations: tuple[float, ...]
    negative: tuple[float, ...]
    score_range: tuple[float, ...]
    parameters: tuple[int, ...]
    maps: Mapping[str, Float[Tensor, "queries keys"]]

    def summary(self) -> str:
        """A line for each layer."""
        rows = zip(
            self.layers, self.score_rank, self.weight_rank, self.row_sums, self.row_sum_deviations, self.negative,
            strict=True,
        )  # fmt: skip
        return "\n".join(
            f"{name}: stable rank {before:.2f} of scores, {after:.2f} of weights; rows sum to {total:.3g} ± "
            f"{deviation:.2g}; {share:.0%} negative"
            for name, before, after, total, deviation, share in rows
        )

    def plot(self, ax: Any) -> Any:
        """Singular values of scores (broken lines) and of weights (whole ones) of every layer."""
        for i, name in enumerate(self.layers):
            line = ax.plot(self.weights[i].tolist(), label=name)[0]
            ax.plot(self.scores[i].tolist(), "--", color=line.get_color())
        ax.set(xlabel="number", ylabel="singular value, share of the largest", yscale="log")
        ax.legend()
        return ax


@torch.no_grad()
def attention_spectrum(model: nn.Module, x: Any) -> AttentionSpectrum:
    """What the operators of all `LearnableAttention` layers make of their scores on a batch.

    For a network with softmax, convert a copy by ``replace_attention(model, num_tokens, basis="softmax")``, which
    computes the same.

    Args:
        model: any network.
        x: a batch of its inputs.

    Raises:
        ValueError: the network has no such layer.
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, LearnableAttention)}
    if not layers:
        raise ValueError(f"{type(model).__name__} has no LearnableAttention; replace_attention makes them")
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def watch(name: str, layer: LearnableAttention) -> Any:
        def look(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            query, key = args[0], args[1] if len(args) > 1 else named.get("key")
            key = query if key is None else key
            if not layer.batch_first:
                query, key = query.transpose(0, 1), key.transpose(0, 1)
            padding = args[3] if len(args) > 3 else named.get("key_padding_mask")
            mask = args[5] if len(args) > 5 else named.get("attn_mask")
            scores = layer.scores(query, key)
            seen[name] = scores, layer.operator(scores, layer.kept(padding, mask, named.get("is_causal", False)))

        return layer.register_forward_pre_hook(look, with_kwargs=True)

    hooks = [watch(name, layer) for name, layer in layers.items()]
    try:
        with evaluation(model):
            call(model, x)
    finally:
        for hook in hooks:
            hook.remove()
    names = tuple(seen)
    pairs = [tuple(t.float() for t in seen[name]) for name in names]
    spectra = [[torch.linalg.svdvals(t) for t in pair] for pair in pairs]
    ranks = [
        [float((s.square().sum(-1) / s[..., 0].square().clamp_min(1e-30)).mean()) for s in each] for each in spectra
    ]
    shares = [[(s / s[..., :1].clamp_min(1e-30)).flatten(0, -2).mean(0).cpu() for s in each] for each in spectra]
    sums = [weights.sum(-1) for _, weights in pairs]
    return AttentionSpectrum(
        names,
        torch.stack([each[0] for each in shares]),
        torch.stack([each[1] for each in shares]),
        tuple(before for before, _ in ranks),
        tuple(after for _, after in ranks),
        tuple(float(each.mean()) for each in sums),
        tuple(float(each.std()) for each in sums),
        tuple(float((weights < 0).float().mean()) for _, weights in pairs),
        tuple(float(scores.abs().max()) for scores, _ in pairs),
        tuple(sum(p.numel() for p in layers[name].operator.parameters()) for name in names),
        {name: weights[0].mean(0).cpu() for name, (_, weights) in zip(names, pairs, strict=True)},
    )


def _stable_rank(values: Tensor) -> float:
    """Squared Frobenius norm by squared spectral norm, from singular values in falling order; mean over matrices."""
    squares = values.square()
    return float((squares.sum(-1) / squares[..., 0].clamp_min(1e-30)).mean())
