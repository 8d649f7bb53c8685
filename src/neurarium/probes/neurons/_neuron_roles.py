"""What neurons do to the next token, read off the weights: predict few tokens, suppress few, set the confidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult
from neurarium.probes.neurons._neuron_statistics import networks_of, neuron_name, output_rows

KURTOSIS = 10.0
"""Above it a neuron speaks of few tokens of the vocabulary (the release's threshold)."""


@dataclass(frozen=True)
class NeuronRoles(ProbeResult):
    """The effect of each neuron's output weights on the vocabulary; neurons are counted through all layers.

    Args:
        mean: over the vocabulary, of the cosine of the neuron's output with each token's unembedding.
        variance: of that cosine.
        skew: of that cosine.
        kurtosis: of that cosine (3 for a Gaussian).
        entropy_score: length of the output weights times how silent they are: the spread over the vocabulary that a
            random direction of this length would have, over the neuron's own. High: it changes the length of the last
            residual, and with it the confidence, and hardly any token against another.
        layers: names of the layers.
        sizes: neurons of each.
    """

    mean: Float[Tensor, " neurons"]
    variance: Float[Tensor, " neurons"]
    skew: Float[Tensor, " neurons"]
    kurtosis: Float[Tensor, " neurons"]
    entropy_score: Float[Tensor, " neurons"]
    layers: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def prediction(self) -> Tensor:
        """Neurons that raise few tokens: high kurtosis, positive skew."""
        return (self.kurtosis > KURTOSIS) & (self.skew > 0)

    @property
    def suppression(self) -> Tensor:
        """Neurons that lower few tokens: high kurtosis, negative skew."""
        return (self.kurtosis > KURTOSIS) & (self.skew < 0)

    @property
    def partition(self) -> Tensor:
        """Neurons that part the vocabulary: the 1 % of highest variance, of low kurtosis."""
        return (self.variance > self.variance.quantile(0.99)) & (self.kurtosis < KURTOSIS)

    def by_layer(self) -> dict[str, list[float]]:
        """Share of prediction and suppression neurons, by layer."""
        return {
            name: [float(part.double().mean()) for part in marks.cpu().split(self.sizes)]
            for name, marks in (("prediction", self.prediction), ("suppression", self.suppression))
        }

    def summary(self) -> str:
        """How many of each kind, and where the most silent long neuron sits."""
        score = self.entropy_score
        return (
            f"{len(self.mean):,} neurons: {int(self.prediction.sum())} prediction, {int(self.suppression.sum())} "
            f"suppression, {int(self.partition.sum())} partition; highest entropy score {float(score.max()):.2f} "
            f"(median {float(score.median()):.2f}) at {self.name(int(score.argmax()))}"
        )

    def name(self, neuron: int) -> str:
        """Layer and place of a neuron that is counted through all layers."""
        return neuron_name(neuron, self.layers, self.sizes)

    def plot(self, ax: Any) -> Any:
        """Share of prediction and suppression neurons by layer."""
        for name, share in self.by_layer().items():
            ax.plot(share, marker="o", label=name)
        ax.set(xlabel="layer", ylabel="share of neurons", ylim=(0, None))
        ax.legend()
        return ax


def neuron_roles(model: nn.Module, head: str | None = None, norm: str | None = None) -> NeuronRoles:
    """Vocabulary effect and entropy score of every neuron of a decoder (Gurnee et al., 2024, sections 5.1 and 5.2).

    The last norm's scale is folded into the unembedding, which is centred over the vocabulary (a shift of all logits
    changes nothing); where the norm takes the mean away, so are the neurons' output weights. No data are needed.

    Args:
        model: a decoder with feed-forward networks that write to the residual stream.
        head: name of the map to the logits; by default ``get_output_embeddings()``, or the last linear layer whose
            output counts the vocabulary.
        norm: name of the norm before it; by default the last norm of the model that lies outside its blocks.

    Raises:
        ValueError: no feed-forward network, unembedding or norm of the right size is found.
    """
    networks = networks_of(model)
    if not networks:
        raise ValueError("no feed-forward network was found in the model")
    unembedding, centred = folded_unembedding(model, head, norm)
    norms = unembedding.norm(dim=1).clamp_min(1e-30)
    spread = (unembedding.square().mean()).sqrt()  # of the logits' change by a random direction of length 1
    columns: dict[str, list[Tensor]] = {name: [] for name in ("mean", "variance", "skew", "kurtosis", "entropy_score")}
    for parts in networks.values():
        out = output_rows(parts).to(unembedding)
        if out.shape[1] != unembedding.shape[1]:
            raise ValueError(
                f"the neurons write {out.shape[1]} features, but the unembedding reads {unembedding.shape[1]}"
            )
        out = out - out.mean(1, keepdim=True) if centred else out
        length = out.norm(dim=1)
        effect = out @ unembedding.T
        cosine = effect / norms / length.clamp_min(1e-30)[:, None]
        mean = cosine.mean(1)
        away = cosine - mean[:, None]
        variance = away.square().mean(1)
        columns["mean"].append(mean)
        columns["variance"].append(variance)
        columns["skew"].append(away.pow(3).mean(1) / variance.clamp_min(1e-30) ** 1.5)
        columns["kurtosis"].append(away.pow(4).mean(1) / variance.clamp_min(1e-30) ** 2)
        own = effect.std(1, correction=0)
        columns["entropy_score"].append(length * spread * length / own.clamp_min(1e-6 * spread * length + 1e-30))
    return NeuronRoles(
        **{name: torch.cat(parts) for name, parts in columns.items()}, layers=tuple(networks),
        sizes=tuple(len(part) for part in columns["mean"]),
    )  # fmt: skip


def folded_unembedding(model: nn.Module, head: str | None, norm: str | None) -> tuple[Tensor, bool]:
    """The unembedding [vocabulary, width] with the last norm's scale in it, centred; and whether that norm centres."""
    out = model.get_submodule(head) if head is not None else _find_head(model)
    weight = out.weight.detach().double()  # type: ignore[operator]
    last = model.get_submodule(norm) if norm is not None else find_norm(model, weight.shape[1])
    scale = getattr(last, "weight", None)
    if isinstance(scale, Tensor):
        offset = 1.0 if type(last).__name__.startswith("Gemma") else 0.0  # Gemma's norms multiply by 1 + weight
        weight = weight * (scale.detach().double() + offset)
    return weight - weight.mean(0), isinstance(last, nn.LayerNorm)


def _find_head(model: nn.Module) -> nn.Module:
    given = getattr(model, "get_output_embeddings", lambda: None)()
    if isinstance(given, nn.Module):
        return given
    tokens = {m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)}
    found = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features in tokens]
    if not found:
        raise ValueError("no map to the logits was found; name it in head")
    return found[-1]


def find_norm(model: nn.Module, width: int) -> nn.Module:
    """The last norm of a decoder: the last one that is in no block.

    Raises:
        ValueError: there is none of this width.
    """
    blocks = [name + "." for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    found = [
        module
        for name, module in model.named_modules()
        if "norm" in type(module).__name__.lower()
        and isinstance(getattr(module, "weight", None), Tensor)
        and module.weight.shape == (width,)
        and not any(name.startswith(block) for block in blocks)
    ]
    if not found:
        raise ValueError(f"no norm of width {width} was found before the logits; name it in norm")
    return found[-1]
