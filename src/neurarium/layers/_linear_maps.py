"""The linear maps of a model, wherever torch keeps their weights: layers, attention's stacked projections, Conv1D."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LinearMap:
    """One weight matrix of a model.

    Args:
        owner: the module that holds it.
        path: the module's name in the model.
        weight_name: attribute of the weight.
        bias_name: attribute of the bias.
        output_dim: dimension of the weight that counts outputs: 0, but 1 in the Conv1D layers of GPT-2.
    """

    owner: nn.Module
    path: str
    weight_name: str = "weight"
    bias_name: str = "bias"
    output_dim: int = 0

    @property
    def name(self) -> str:
        """The weight's name in the model's state dict."""
        return f"{self.path}.{self.weight_name}" if self.path else self.weight_name

    @property
    def weight(self) -> Tensor:
        """The weight."""
        return getattr(self.owner, self.weight_name)

    @property
    def bias(self) -> Tensor | None:
        """The bias, one number per output."""
        return getattr(self.owner, self.bias_name, None)

    def dim(self, axis: str) -> int:
        """The weight's dimension that counts neurons: outputs ("output") or inputs ("input").

        Raises:
            ValueError: an unknown axis.
        """
        if axis not in ("output", "input"):
            raise ValueError(f"axis must be 'output' or 'input', not {axis!r}")
        return self.output_dim if axis == "output" else 1 - self.output_dim


Parts = tuple[tuple[LinearMap, str], ...]
"""What a neuron's weights are taken from: maps, and for each the axis that counts neurons."""


def linear_maps(model: nn.Module, modules: Sequence[str] | None = None) -> dict[str, LinearMap]:
    """Weight matrices of a model by name: `nn.Linear`, attention's ``in_proj_weight``, transformers' ``Conv1D``.

    Args:
        model: any module.
        modules: names of the modules to take, or shell patterns (``"*.self_attn"``, ``"*.q_proj"``); a module's parts
            belong to it. By default the blocks of the model: whatever lies in an `nn.ModuleList` or, where there is
            none, everything. Embeddings and the head of a language model are thereby left out.

    Raises:
        ValueError: nothing is found, or a pattern matches nothing.
    """
    found: dict[str, LinearMap] = {}
    for path, module in model.named_modules():
        for linear in _maps_of(module, path):
            if isinstance(linear.weight, Tensor) and linear.weight.dim() == 2 and linear.weight.is_floating_point():
                found[linear.name] = linear
    if modules is None:
        blocks = [path + "." for path, module in model.named_modules() if isinstance(module, nn.ModuleList)]
        inside = {name: m for name, m in found.items() if any(name.startswith(block) for block in blocks)}
        found = inside or found
    else:
        chosen: dict[str, LinearMap] = {}
        for pattern in modules:
            hits = {n: m for n, m in found.items() if any(fnmatchcase(p, pattern) for p in _parents(m.path))}
            if not hits:
                raise ValueError(f"modules={pattern!r} matches no linear map; they are {', '.join(found)}")
            chosen |= hits
        found = {name: m for name, m in found.items() if name in chosen}
    if not found:
        raise ValueError("the model has no linear maps (nn.Linear, attention projections or Conv1D)")
    return found


FEED_FORWARD = {  # the last map of a feed-forward network, and those before it, as torch and transformers name them
    "down_proj": ("gate_proj", "up_proj"),
    "linear2": ("linear1",),
    "c_proj": ("c_fc",),
    "fc2": ("fc1",),
    "fc_out": ("fc_in",),
    "wo": ("wi", "wi_0", "wi_1"),
    "w2": ("w1", "w3"),
    "dense_4h_to_h": ("dense_h_to_4h",),
}


def neuron_parts(
    model: nn.Module, modules: Sequence[str] | None = None, axis: str = "output", unit: str = "vector"
) -> dict[str, Parts]:
    """Where the weights of a model's neurons lie, by the name of a weight.

    Args:
        model: any module.
        modules: as in `linear_maps`.
        axis: "output" or "input", where the unit is "vector".
        unit: "vector": a row (or column) of one weight; "ffn": a hidden unit of a feed-forward network, that is its row
            of the up projection (and of the gate) with its column of the down projection, under whose name it goes.

    Raises:
        ValueError: nothing is found, or an unknown axis or unit.
    """
    if unit not in ("vector", "ffn"):
        raise ValueError(f"unit must be 'vector' or 'ffn', not {unit!r}")
    maps = linear_maps(model, modules)
    if unit == "vector":
        return {name: ((m, axis),) for name, m in maps.items()}
    if axis != "output":
        raise ValueError("axis has no meaning where unit='ffn': leave it out")
    found = {name: parts for name, m in maps.items() if (parts := feed_forward(model, m))}
    if not found:
        pairs = ", ".join(f"{'/'.join(before)} -> {last}" for last, before in FEED_FORWARD.items())
        raise ValueError(f"no feed-forward network found: known are {pairs}, and an nn.Sequential of two linear maps")
    return found


def feed_forward(model: nn.Module, down: LinearMap) -> Parts | None:
    """The maps of the feed-forward network that ends in ``down``, or None where there is no such network."""
    path, _, last = down.path.rpartition(".")
    parent = model.get_submodule(path)
    if isinstance(parent, nn.Sequential):
        names = [name for name, child in parent.named_children() if _maps_of(child, name)]
        before = tuple(names[:1]) if len(names) == 2 and names[1] == last else ()
    else:
        before = FEED_FORWARD.get(last, ())
    owners = [(name, getattr(parent, name)) for name in before if hasattr(parent, name)]
    maps = [m for name, owner in owners for m in _maps_of(owner, f"{path}.{name}" if path else name)]
    width = down.weight.shape[down.dim("input")]
    if not maps or len(maps) < len(owners) or any(m.weight.shape[m.dim("output")] != width for m in maps):
        return None
    return (*((m, "output") for m in maps), (down, "input"))


def joined(parts: Parts, weights: Mapping[str, Tensor] | None = None) -> Tensor:
    """The weights of neurons, one per row; taken from ``weights`` by name where these are given."""
    found = [m.weight if weights is None else weights[m.name] for m, _ in parts]
    return torch.cat([w if m.dim(axis) == 0 else w.T for w, (m, axis) in zip(found, parts, strict=True)], dim=1)


def shared_with(model: nn.Module, weight: Tensor) -> list[str]:
    """Names under which a model knows a parameter: more than one where it is tied."""
    return [name for name, p in model.named_parameters(remove_duplicate=False) if p is weight]


def _maps_of(module: nn.Module, path: str) -> list[LinearMap]:
    if isinstance(module, nn.Linear):
        return [LinearMap(module, path)]
    if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
        return [LinearMap(module, path, "in_proj_weight", "in_proj_bias")]
    if type(module).__name__ == "Conv1D" and isinstance(getattr(module, "weight", None), nn.Parameter):
        return [LinearMap(module, path, output_dim=1)]
    return []


def _parents(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def first_difference(model: nn.Module, state: dict[str, torch.Tensor]) -> str | None:
    """What first differs between a model's parameters and a state dict in name or shape; None where nothing does."""
    own = model.state_dict()
    for name, tensor in own.items():
        if name not in state:
            return f"{name} is missing"
        if state[name].shape != tensor.shape:
            return f"{name} has shape {tuple(state[name].shape)}, not {tuple(tensor.shape)}"
    return next((f"{name} is not in the base model" for name in state if name not in own), None)
