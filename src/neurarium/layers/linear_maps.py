"""The linear maps of a model, wherever torch keeps their weights: layers, attention's stacked projections, Conv1D."""

from __future__ import annotations

from collections.abc import Sequence
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

    def neurons(self, axis: str = "output") -> Tensor:
        """The weight with one neuron per row."""
        return self.weight if self.dim(axis) == 0 else self.weight.T


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
