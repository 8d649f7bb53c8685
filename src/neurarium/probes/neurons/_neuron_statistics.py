"""What each neuron does over many tokens, and what its weights are like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.layers._linear_maps import Parts, feed_forward, linear_maps
from neurarium.probes._result import ProbeResult
from neurarium.probes.neurons._excess_correlation import hidden_layers
from neurarium.probes.similarity._units import INPUT, Units, kept_tokens, rows
from neurarium.training import evaluation


@dataclass(frozen=True)
class NeuronStatistics(ProbeResult):
    """A table with a row per neuron, counted through all layers; ``pandas.DataFrame(result.columns)`` takes it.

    Args:
        columns: by name. Of activations: ``mean``, ``variance``, ``skew``, ``kurtosis`` (3 for a Gaussian),
            ``sparsity`` (share of tokens at which the neuron is above zero). Of weights, where the layers belong to
            feed-forward networks: ``w_in`` and ``w_out`` (lengths), ``bias``, ``cosine`` of both, ``penalty`` (sum of
            both squared lengths), and ``w_gate`` and ``gate_cosine`` where a gate multiplies.
        layers: names of the layers.
        sizes: neurons of each.
        samples: tokens seen.
    """

    columns: Mapping[str, Float[Tensor, " neurons"]]
    layers: tuple[str, ...]
    sizes: tuple[int, ...]
    samples: int

    def summary(self) -> str:
        """Medians."""
        middle = {name: float(column.nanmedian()) for name, column in self.columns.items()}
        return f"{sum(self.sizes):,} neurons, {self.samples:,} tokens; medians: " + ", ".join(
            f"{name} {value:.3g}" for name, value in middle.items()
        )

    def plot(self, ax: Any) -> Any:
        """Skew against kurtosis, coloured by the share of tokens at which a neuron is on."""
        skew, kurtosis, on = (self.columns[name].cpu() for name in ("skew", "kurtosis", "sparsity"))
        points = ax.scatter(skew, kurtosis, s=4, c=on, cmap="viridis", linewidths=0)
        ax.figure.colorbar(points, ax=ax, label="share of tokens above zero")
        ax.set_yscale("log")
        ax.set(xlabel="skew of the activation", ylabel="kurtosis")
        return ax


def neuron_statistics(
    model: nn.Module, batches: Iterable[Any], layers: Sequence[str] | None = None, *, exclude: Sequence[int] = ()
) -> NeuronStatistics:
    """Moments of every neuron's activation and norms of its weights (Gurnee et al., 2024, section 4.1).

    Args:
        model: as in `excess_correlation`.
        batches: as in `excess_correlation`; one pass.
        layers: as in `excess_correlation`.
        exclude: token ids that do not count.

    Raises:
        ValueError: fewer than two tokens, or an unknown layer.
    """
    reader = Units(model, list(layers) if layers is not None else hidden_layers(model))
    sums: list[_Moments] = [_Moments() for _ in reader.layers]
    with torch.no_grad(), evaluation(model):
        for batch in batches:
            keep = kept_tokens(batch, exclude)
            for total, part in zip(sums, reader.samples(batch).values()):
                total.update(rows(part.flatten(2) if part.dim() > 2 else part[:, :, None], keep))
    if not sums or sums[0].count < 2:
        raise ValueError("the batches hold fewer than two tokens that count")
    parts = [total.columns() for total in sums]
    columns = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    found = [networks_of(model).get(name) for name in reader.layers]
    if all(network is not None for network in found):
        weights = [weight_columns(network) for network in found if network is not None]
        for name in weights[0]:
            columns[name] = torch.cat([part[name].to(columns["mean"]) for part in weights])
    return NeuronStatistics(columns, reader.layers, tuple(len(part["mean"]) for part in parts), sums[0].count)


class _Moments:
    """Sums of the first four powers about the first batch's mean, scaled by its deviation."""

    def __init__(self) -> None:
        self.count = 0

    def update(self, x: Float[Tensor, "samples neurons"]) -> None:
        x = x.double() if x.device.type != "mps" else x.float()
        if len(x) == 0:
            return
        if self.count == 0:
            self.shift = x.mean(0)
            self.scale = (x - self.shift).square().mean(0).sqrt()
            self.scale = torch.where(self.scale > 0, self.scale, 1.0)
            self.sums = x.new_zeros(4, x.shape[1])
            self.above = x.new_zeros(x.shape[1])
        centred = (x - self.shift) / self.scale
        power = centred
        for total in self.sums:
            total += power.sum(0)
            power = power * centred
        self.above += (x > 0).sum(0)
        self.count += len(x)

    def columns(self) -> dict[str, Tensor]:
        m1, m2, m3, m4 = self.sums / self.count
        variance = (m2 - m1**2).clamp_min(0)
        third = m3 - 3 * m1 * m2 + 2 * m1**3
        fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
        moving = variance > 1e-14
        safe = torch.where(moving, variance, 1.0)
        nan = torch.full_like(variance, torch.nan)  # a dead neuron has neither skew nor kurtosis
        return {
            "mean": self.shift + self.scale * m1,
            "variance": variance * self.scale**2,
            "skew": torch.where(moving, third / safe**1.5, nan),
            "kurtosis": torch.where(moving, fourth / safe**2, nan),
            "sparsity": self.above / self.count,
        }


def neuron_name(neuron: int, layers: Sequence[str], sizes: Sequence[int]) -> str:
    """Layer and place of a neuron that is counted through all layers.

    Raises:
        IndexError: there are not so many.
    """
    for layer, size in zip(layers, sizes):
        if neuron < size:
            return f"{layer.removesuffix(INPUT)}[{neuron}]"
        neuron -= size
    raise IndexError(f"there are only {sum(sizes)} neurons")


def networks_of(model: nn.Module) -> dict[str, Parts]:
    """The feed-forward networks of a model, by the name under which their hidden neurons are tapped."""
    found = {f"{m.path}{INPUT}": feed_forward(model, m) for m in linear_maps(model, ["*"]).values()}
    return {name: parts for name, parts in found.items() if parts is not None}


def input_rows(parts: Parts) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Weights into the neurons, one row each: of what is passed on, of the gate (None without), and the bias."""
    before = [part[0] for part in parts[:-1]]
    weights = [(m.weight if m.output_dim == 0 else m.weight.T).detach().double() for m in before]
    bias = None if before[-1].bias is None else before[-1].bias.detach().double()
    return weights[-1], weights[0] if len(weights) > 1 else None, bias


def output_rows(parts: Parts) -> Float[Tensor, "neurons width"]:
    """Weights out of the neurons, one row each."""
    down = parts[-1][0]
    return (down.weight.T if down.output_dim == 0 else down.weight).detach().double()


def weight_columns(parts: Parts) -> dict[str, Tensor]:
    """Columns of `NeuronStatistics` that the weights give."""
    up, gate, bias = input_rows(parts)
    out = output_rows(parts)
    columns = {"w_in": up.norm(dim=1), "w_out": out.norm(dim=1), "cosine": torch.cosine_similarity(up, out, dim=1)}
    columns["penalty"] = columns["w_in"] ** 2 + columns["w_out"] ** 2
    columns["bias"] = torch.zeros_like(columns["w_in"]) if bias is None else bias
    if gate is not None:
        columns["w_gate"], columns["gate_cosine"] = gate.norm(dim=1), torch.cosine_similarity(gate, out, dim=1)
    return columns
