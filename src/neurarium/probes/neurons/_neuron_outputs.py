"""How a fine-tuning changed what neurons do: their outputs before and after, on the same inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurarium.layers._linear_maps import LinearMap, first_difference, linear_maps
from neurarium.probes.neurons._neurons import NeuronSimilarity
from neurarium.training import evaluation


@torch.no_grad()
def neuron_output_similarity(
    base: nn.Module, tuned: nn.Module, batches: Iterable[Any], modules: Sequence[str] | None = None
) -> NeuronSimilarity:
    """Cosine distance of each neuron's outputs before and after a fine-tuning, over all positions of all inputs.

    A neuron whose weights were kept can still change its function, because what it sees has changed. The sums are in
    double precision.

    Args:
        base: the model before, called as ``base(x)``; each module's mode is put back afterwards.
        tuned: the model after, called in the same way.
        batches: inputs.
        modules: as in `neuron_similarity`.

    Raises:
        ValueError: the two differ in architecture, no batch is given, or a linear map is not called as a module.
    """
    maps = linear_maps(base, modules), linear_maps(tuned, modules)
    difference = first_difference(base, tuned.state_dict())
    if difference is not None:
        raise ValueError(f"base and tuned differ in architecture: {difference}")
    sums: dict[str, Tensor] = {}  # of squares before and after, and of products, [3, neurons]
    with evaluation(base), evaluation(tuned):
        for x in batches:
            before, after = _outputs(base, maps[0], x), _outputs(tuned, maps[1], x)
            for name, a in before.items():
                b = after[name]
                found = torch.stack([(a * a).sum(0), (b * b).sum(0), (a * b).sum(0)])
                sums[name] = sums[name] + found if name in sums else found
    missing = [name for name in maps[0] if name not in sums]
    if missing:
        raise ValueError(f"no outputs of {missing[0]}: give batches, to a model that calls its layers")
    distances, norms = {}, {}
    for name in maps[0]:
        a, b, product = sums[name]
        silent = (a == 0) & (b == 0)
        cosine = torch.where(silent, 1.0, product / (a.sqrt() * b.sqrt()).clamp_min(1e-30))
        kind = torch.promote_types(maps[0][name].weight.dtype, torch.float32)
        distances[name] = (1 - cosine).clamp_min(0).to(kind)
        norms[name] = a.sqrt().to(kind)
    return NeuronSimilarity(distances, norms)


def _outputs(model: nn.Module, maps: Mapping[str, LinearMap], x: Any) -> dict[str, Tensor]:
    """What each linear map gives on a batch, [positions, neurons] in double precision."""
    found: dict[str, list[Tensor]] = {}

    def keep(name: str, *outputs: Tensor) -> None:
        rows = torch.cat([y.reshape(-1, y.shape[-1]) for y in outputs], dim=1)
        found.setdefault(name, []).append(rows.double())

    def hooked(name: str, linear: LinearMap) -> Any:
        parent = model.get_submodule(linear.path.rpartition(".")[0])
        if isinstance(parent, nn.MultiheadAttention):  # takes the weights of its output map and never calls it
            return parent.register_forward_hook(lambda _module, _inputs, y: keep(name, y[0]))
        if linear.weight_name == "weight":
            return linear.owner.register_forward_hook(lambda _module, _inputs, y: keep(name, y))

        def before(_module: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Any]) -> None:
            query, key, value = (*inputs, *(named[k] for k in ("query", "key", "value")[len(inputs) :]))[:3]
            biases = (None, None, None) if linear.bias is None else linear.bias.chunk(3)
            weights = linear.weight.chunk(3)
            parts = zip((query, key, value), weights, biases, strict=True)
            keep(name, *(F.linear(x, weight, bias) for x, weight, bias in parts))

        return linear.owner.register_forward_pre_hook(before, with_kwargs=True)

    handles = [hooked(name, linear) for name, linear in maps.items()]
    try:
        model(x)
    finally:
        for handle in handles:
            handle.remove()
    return {name: torch.cat(rows) for name, rows in found.items()}
