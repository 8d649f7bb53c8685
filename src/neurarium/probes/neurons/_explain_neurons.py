"""How much of each neuron's variance the best of many simple properties of tokens accounts for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurarium.data import Feature
from neurarium.probes._result import ProbeResult
from neurarium.probes.neurons._excess_correlation import hidden_layers
from neurarium.probes.neurons._neuron_statistics import neuron_name
from neurarium.probes.similarity._units import Units, kept_tokens, rows, tokens_of
from neurarium.training import evaluation


@dataclass(frozen=True)
class NeuronExplanations(ProbeResult):
    """The best property of each neuron.

    Args:
        reduction: variance that the best property accounts for, 0 to 1, of each neuron.
        best: place of that property.
        table: the same for all properties, [features, neurons].
        features: names of the properties.
        layers: names of the layers.
        sizes: neurons of each.
    """

    reduction: Float[Tensor, " neurons"]
    best: Int[Tensor, " neurons"]
    table: Float[Tensor, "features neurons"]
    features: tuple[str, ...]
    layers: tuple[str, ...]
    sizes: tuple[int, ...]

    def summary(self) -> str:
        """The best explained neurons."""
        lines = [f"{len(self.best):,} neurons; the best of {len(self.features)} properties accounts for "
                 f"{float(self.reduction.mean()):.0%} of the variance on average"]  # fmt: skip
        for neuron in self.reduction.argsort(descending=True)[:5].tolist():
            lines.append(
                f"  {self.name(neuron)}: {self.features[int(self.best[neuron])]} ({float(self.reduction[neuron]):.0%})"
            )
        return "\n".join(lines)

    def name(self, neuron: int) -> str:
        """Layer and place of a neuron that is counted through all layers."""
        return neuron_name(neuron, self.layers, self.sizes)

    def plot(self, ax: Any) -> Any:
        """How many neurons each property explains best, and how well."""
        counts = torch.bincount(self.best.cpu(), minlength=len(self.features))
        order = [i for i in counts.argsort(descending=True).tolist() if counts[i]][:20][::-1]
        shares = [float(self.reduction[self.best == i].mean()) for i in order]
        colours = [(0.2, 0.3 + 0.5 * share, 0.6, 0.4 + 0.6 * share) for share in shares]
        bars = ax.barh([self.features[i] for i in order], counts[order], color=colours)
        ax.bar_label(bars, [f"{share:.0%}" for share in shares], padding=3, fontsize="small")
        ax.set(xlabel="neurons that it explains best (label: mean share of variance)")
        return ax


def explain_neurons(
    model: nn.Module,
    batches: Iterable[Any],
    features: Mapping[str, Feature],
    layers: Sequence[str] | None = None,
    *,
    exclude: Sequence[int] = (),
) -> NeuronExplanations:
    """Variance reduction of every neuron by every property (Gurnee et al., 2024, section 4.2), in one pass.

    (var h - [p var(h | f) + (1 - p) var(h | not f)]) / var h, that is, the squared correlation with the property.

    Args:
        model: as in `excess_correlation`.
        batches: as in `excess_correlation`.
        features: properties by name (`neurarium.data.token_features` makes a library of them).
        layers: as in `excess_correlation`.
        exclude: token ids that do not count.

    Raises:
        ValueError: no features, or no tokens.
    """
    if not features:
        raise ValueError("features must name at least one property")
    reader = Units(model, list(layers) if layers is not None else hidden_layers(model))
    count, positive = 0, torch.zeros(len(features), dtype=torch.float64)
    first: list[Tensor] = []
    total: list[Tensor] = []
    square: list[Tensor] = []
    marked: list[Tensor] = []
    with torch.no_grad(), evaluation(model):
        for batch in batches:
            keep = kept_tokens(batch, exclude)
            tokens = tokens_of(batch)
            flags = torch.stack([feature(tokens) for feature in features.values()]).double().cpu()
            flags = flags.flatten(1) if keep is None else flags[:, keep.cpu()]
            for k, part in enumerate(reader.samples(batch).values()):
                x = rows(part.flatten(2) if part.dim() > 2 else part[:, :, None], keep).double().cpu()
                if len(first) <= k:
                    first.append(x.mean(0))
                    total.append(torch.zeros_like(x[0]))
                    square.append(torch.zeros_like(x[0]))
                    marked.append(x.new_zeros(len(features), x.shape[1]))
                x = x - first[k]
                total[k] += x.sum(0)
                square[k] += x.square().sum(0)
                marked[k] += flags @ x
            count += flags.shape[1]
            positive += flags.sum(1)
    if count < 2:
        raise ValueError("the batches hold fewer than two tokens that count")
    tables = []
    share = positive / count
    for s, q, m in zip(total, square, marked):
        variance = (q / count - (s / count) ** 2).clamp_min(0)
        between = (m / count - share[:, None] * (s / count)) ** 2
        scale = (share * (1 - share))[:, None] * variance
        tables.append(
            torch.where(scale > 1e-14 * (q / count).clamp_min(1e-30), between / scale.clamp_min(1e-300), 0.0).clamp(
                0, 1
            )
        )
    table = torch.cat(tables, 1)
    reduction, best = table.max(0)
    sizes = tuple(part.shape[1] for part in tables)
    return NeuronExplanations(reduction, best, table, tuple(features), reader.layers, sizes)
