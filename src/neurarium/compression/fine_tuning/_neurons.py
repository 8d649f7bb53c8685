"""Sets of neurons, and ways to choose them: what a fine-tuning turned, gradients, activations, chance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.data._saved import read_saved
from neurarium.layers._linear_maps import Parts, joined, linear_maps, neuron_parts
from neurarium.probes import neuron_similarity
from neurarium.training import evaluation


class NeuronSet(Mapping[str, Tensor]):
    """Indices of chosen neurons by weight name; weights without any are left out.

    Args:
        indices: int64 indices by weight name.
        sizes: neurons that each weight has.
        axis: "output" (rows of a weight: what makes one output) or "input" (columns).
        unit: "vector", or "ffn": whole hidden units, by the name of the down projection (see `neuron_parts`).
    """

    def __init__(
        self, indices: Mapping[str, Tensor], sizes: Mapping[str, int], axis: str = "output", unit: str = "vector"
    ) -> None:
        self.indices = {name: index.cpu().long() for name, index in indices.items() if len(index)}
        self.sizes = {name: int(size) for name, size in sizes.items()}
        self.axis, self.unit = axis, unit
        for name, index in self.indices.items():
            if name not in self.sizes or int(index.max()) >= self.sizes[name] or int(index.min()) < 0:
                raise ValueError(f"indices of {name} do not fit its {self.sizes.get(name, 0)} neurons")

    def __getitem__(self, name: str) -> Tensor:
        return self.indices[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def count(self) -> int:
        """How many neurons were chosen."""
        return sum(len(index) for index in self.indices.values())

    @property
    def fraction(self) -> float:
        """Share of all neurons."""
        return self.count() / sum(self.sizes.values())

    def table(self) -> dict[str, float]:
        """Share of each weight's neurons that was chosen."""
        return {name: len(self.indices.get(name, ())) / size for name, size in self.sizes.items()}

    def save(self, path: str | Path) -> None:
        """Write the index lists; a few kilobytes for a large model."""
        torch.save({"indices": self.indices, "sizes": self.sizes, "axis": self.axis, "unit": self.unit}, path)

    @classmethod
    def load(cls, path: str | Path) -> NeuronSet:
        """Read what `save` wrote.

        Raises:
            ValueError: it is no such file.
        """
        names = ("indices", "sizes", "axis", "unit")
        saved = read_saved(path, "NeuronSet.save", names)
        return cls(**{name: saved[name] for name in names})

    def __repr__(self) -> str:
        return f"NeuronSet({self.count()} of {sum(self.sizes.values())} neurons in {len(self)} weights)"


def choose(
    scores: Mapping[str, Tensor],
    fraction: float,
    *,
    scope: str = "global",
    axis: str = "output",
    unit: str = "vector",
    costs: Mapping[str, int] | None = None,
) -> NeuronSet:
    """The neurons with the largest scores.

    Args:
        scores: one number per neuron, by weight name.
        fraction: share to choose, in (0, 1].
        scope: "global" ranks all neurons together, "layer" within each weight.
        axis: what a neuron is, with ``unit``.
        unit: "vector" or "ffn".
        costs: numbers that a neuron of each weight has; then ``fraction`` is a share of parameters, and neurons are
            taken in order while they fit.

    Raises:
        ValueError: ``fraction`` outside (0, 1], or an unknown ``scope``.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must lie in (0, 1], not {fraction}")
    if scope not in ("global", "layer"):
        raise ValueError(f"scope must be 'global' or 'layer', not {scope!r}")
    sizes = {name: len(score) for name, score in scores.items()}
    if scope == "layer":
        count = {name: round(fraction * size) for name, size in sizes.items()}
        best = {n: s.argsort(descending=True, stable=True)[: count[n]].sort().values for n, s in scores.items()}
        return NeuronSet(best, sizes, axis, unit)
    everything = torch.cat([score.double().cpu() for score in scores.values()])
    order = everything.argsort(descending=True, stable=True)
    if costs is None:
        kept = order[: round(fraction * len(order))]
    else:
        each = torch.cat([torch.full((size,), costs[name]) for name, size in sizes.items()])
        kept = order[each[order].cumsum(0) <= fraction * int(each.sum())]
    chosen = torch.zeros(len(order), dtype=torch.bool)
    chosen[kept] = True
    parts = zip(sizes, chosen.split(list(sizes.values())), strict=True)
    return NeuronSet({name: part.nonzero().squeeze(1) for name, part in parts}, sizes, axis, unit)


def sensitive_neurons(
    base: nn.Module,
    tuned: nn.Module | Mapping[str, Tensor],
    *,
    fraction: float = 0.06,
    scope: str = "global",
    modules: Sequence[str] | None = None,
    axis: str = "output",
    unit: str = "vector",
    criterion: str = "similarity",
    budget: str = "neurons",
) -> NeuronSet:
    """The neurons that a trial fine-tuning changed most: the paper's first pass.

    Args:
        base: the model before.
        tuned: the model after a full fine-tuning on the task, or its state dict.
        fraction: share of neurons to choose; the paper studies 0.03 to 0.12.
        scope: "global" ranks all neurons together, "layer" takes the share from each weight.
        modules: whose linear maps; the blocks by default (no embeddings, no head).
        axis: "output" or "input".
        unit: "vector": a neuron is a row (column) of one weight; "ffn": a hidden unit of a feed-forward network, its
            row of the up projection (and gate) with its column of the down projection.
        criterion: "similarity": lowest cosine of before and after, as in the paper; "change": largest difference.
        budget: what ``fraction`` is a share of: "neurons" or their "parameters".

    Raises:
        ValueError: a fraction outside (0, 1], models that differ in architecture, or an unknown word.
    """
    if criterion not in ("similarity", "change"):
        raise ValueError(f"criterion must be 'similarity' or 'change', not {criterion!r}")
    if criterion == "similarity":
        scores = dict(neuron_similarity(base, tuned, modules, axis, unit).distances)
    else:
        neuron_similarity(base, tuned, modules, axis, unit)  # refuses models that differ
        state = dict(tuned.state_dict() if isinstance(tuned, nn.Module) else tuned)
        with torch.no_grad():
            scores = {
                name: (joined(parts).float() - joined(parts, state).to(parts[0][0].weight.device).float()).norm(dim=1)
                for name, parts in neuron_parts(base, modules, axis, unit).items()
            }
    costs = _costs(neuron_parts(base, modules, axis, unit), budget)
    return choose(scores, fraction, scope=scope, axis=axis, unit=unit, costs=costs)


def random_neurons(
    model: nn.Module,
    *,
    fraction: float = 0.06,
    modules: Sequence[str] | None = None,
    axis: str = "output",
    unit: str = "vector",
    budget: str = "neurons",
    generator: torch.Generator | None = None,
) -> NeuronSet:
    """Neurons at random: the control that every other choice has to beat. Arguments as in `sensitive_neurons`."""
    found = neuron_parts(model, modules, axis, unit)
    scores = {name: torch.rand(len(joined(parts)), generator=generator) for name, parts in found.items()}
    return choose(scores, fraction, axis=axis, unit=unit, costs=_costs(found, budget))


def gradient_neurons(
    model: nn.Module,
    loss: Callable[[], Tensor],
    *,
    fraction: float = 0.06,
    modules: Sequence[str] | None = None,
    axis: str = "output",
    unit: str = "vector",
    budget: str = "neurons",
) -> NeuronSet:
    """Neurons with the longest gradient: no trial fine-tuning, one backward pass.

    Args:
        model: left as it is, ``.grad`` included.
        loss: ``loss() -> scalar`` of the task, computed through the model.
        fraction: share to choose; ``modules``, ``axis``, ``unit`` and ``budget`` as in
            `sensitive_neurons`.
    """
    found = neuron_parts(model, modules, axis, unit)
    weights = {m.name: m.weight for parts in found.values() for m, _ in parts}
    gradients = dict(zip(weights, torch.autograd.grad(loss(), list(weights.values())), strict=True))
    scores = {name: joined(parts, gradients).float().norm(dim=1) for name, parts in found.items()}
    return choose(scores, fraction, axis=axis, unit=unit, costs=_costs(found, budget))


@torch.no_grad()
def activation_neurons(
    model: nn.Module,
    task: Iterable[Any],
    other: Iterable[Any],
    *,
    fraction: float = 0.06,
    modules: Sequence[str] | None = None,
    unit: str = "vector",
    budget: str = "neurons",
) -> NeuronSet:
    """Neurons whose output tells the task from other inputs best: the probing that the paper compares with.

    The score is the difference of mean outputs over the standard deviation. Attention's stacked projection (torch's
    ``in_proj_weight``) has no output of its own and is not scored. What a hidden unit (``unit="ffn"``) gives is what
    the down projection takes.

    Args:
        model: called as ``model(x)``; its mode is put back afterwards.
        task: batches of the task.
        other: batches of something else.
        fraction: share to choose; ``modules``, ``unit`` and ``budget`` as in `sensitive_neurons`.

    Raises:
        ValueError: no batch, or no layer that is called as a module.
    """
    found = neuron_parts(model, modules, unit=unit)
    maps = {n: m for n, m in linear_maps(model, modules).items() if n in found and m.weight_name == "weight"}
    moments: list[dict[str, list[Tensor]]] = [{}, {}]
    with evaluation(model):
        for side, batches in enumerate((task, other)):
            handles = [m.owner.register_forward_hook(_moments(moments[side], name, unit)) for name, m in maps.items()]
            try:
                for x in batches:
                    model(x)
            finally:
                for handle in handles:
                    handle.remove()
    seen = [name for name in maps if name in moments[0] and name in moments[1]]
    if not seen:
        raise ValueError("no linear map was called: give batches of both kinds to a model that calls its layers")
    scores = {}
    for name in seen:
        mean, square, count = zip(*(moments[side][name] for side in (0, 1)), strict=True)
        means = [m / c for m, c in zip(mean, count, strict=True)]
        total = sum(square) / sum(count) - (sum(mean) / sum(count)) ** 2
        scores[name] = (means[0] - means[1]).abs() / total.clamp_min(torch.finfo(total.dtype).tiny).sqrt()
    return choose(scores, fraction, unit=unit, costs=_costs(found, budget))


def _moments(into: dict[str, list[Tensor]], name: str, unit: str) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
        flat = (inputs[0] if unit == "ffn" else output).detach().float().flatten(0, -2)
        flat = flat if flat.device.type == "mps" else flat.double()  # a variance as a difference of squares needs it
        now = [flat.sum(0), flat.square().sum(0), torch.tensor(float(len(flat)), device=flat.device)]
        before = into.get(name)
        into[name] = now if before is None else [a + b for a, b in zip(before, now, strict=True)]

    return hook


def _costs(found: Mapping[str, Parts], budget: str) -> dict[str, int] | None:
    if budget not in ("neurons", "parameters"):
        raise ValueError(f"budget must be 'neurons' or 'parameters', not {budget!r}")
    if budget == "neurons":
        return None
    return {name: neuron_size(parts) for name, parts in found.items()}


def neuron_size(parts: Parts) -> int:
    """Numbers in one neuron: its weights and, where it makes an output, that output's bias."""
    return joined(parts).shape[1] + sum(axis == "output" and m.bias is not None for m, axis in parts)
