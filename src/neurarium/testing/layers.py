"""The contract of layers."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.testing.contract import require, same, seeded

ARGUMENTS: dict[str, Any] = {
    "in_features": 8, "out_features": 6, "num_features": 8, "d_model": 8, "nhead": 2, "tasks": 3, "width": 8,
    "hidden_size": 8, "input_size": 8, "in_channels": 8, "out_channels": 6, "kernel_size": 3, "num_classes": 4,
    "num_neurons": 8, "bits": 4, "verticals": (3, 5), "num_tokens": 5, "num_patches": 5, "map_size": (6, 6),
    "make_block": lambda channels: nn.Conv2d(channels, channels, 3, padding=1),
}  # fmt: skip
"""What a required argument of a layer is filled with, by its conventional name."""


def make_layer(layer_class: type[nn.Module], **more: Any) -> nn.Module:
    """A layer with its required arguments filled in by name (a ``branch`` or ``module`` is a linear map)."""
    filled = {}
    for name, parameter in inspect.signature(layer_class).parameters.items():
        if parameter.default is not parameter.empty or parameter.kind in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            continue
        value = nn.Linear(8, 8) if name in ("branch", "module", "block") else ARGUMENTS.get(name)
        value = [nn.Linear(8, 8), nn.Linear(8, 8)] if name == "experts" else value
        require(
            value is not None, layer_class,
            f"must use conventional argument names; {name!r} is not in neurarium.testing.layers.ARGUMENTS",
        )  # fmt: skip
        filled[name] = value
    return layer_class(**filled, **more)


def has_forward(layer_class: type[nn.Module]) -> bool:
    """Whether a class is a layer and not only a base of layers."""
    return layer_class.forward is not nn.Module.forward


def inputs(layer: nn.Module, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """A batch of 4 for every required argument of ``forward``: images for convolutions, ``scores`` [4, 2 heads, 5, 5],
    else [4, 5, 8].
    """
    shape = (4, 8, 6, 6) if "in_channels" in inspect.signature(type(layer)).parameters else (4, 5, 8)
    required = [
        p for p in inspect.signature(layer.forward).parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]  # fmt: skip
    generator = torch.Generator().manual_seed(5)
    shapes = [(4, 2, 5, 5) if p.name == "scores" else shape for p in required]
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def check_layer(layer_class: type[nn.Module]) -> None:
    """Hold a layer to the contract.

    The batch dimension is kept, equal states give equal outputs, evaluation is deterministic, gradients arrive, and
    ``device`` and ``dtype`` are honoured where they are arguments.

    Raises:
        ContractError: one sentence that says what is wanted.
    """
    layer = seeded(0, lambda: make_layer(layer_class)).eval()
    given = inputs(layer)
    output = _first(layer(*given))
    require(len(output) == len(given[0]), layer_class, "must keep the batch dimension")
    require(bool(torch.isfinite(output).all()), layer_class, "must give finite outputs")
    require(same(output, _first(layer(*given))), layer_class, "must be deterministic in evaluation mode")
    require(same(output, _first(copy.deepcopy(layer)(*given))), layer_class, "must survive copy.deepcopy")
    other = seeded(1, lambda: make_layer(layer_class)).eval()
    other.load_state_dict(layer.state_dict())
    require(same(output, _first(other(*given))), layer_class, "must hold all it needs in its state_dict")
    double = copy.deepcopy(layer).double()
    require(
        _first(double(*inputs(double, torch.float64))).dtype == torch.float64, layer_class, "must work in float64"
    )  # fmt: skip
    x = given[0].clone().requires_grad_()
    _first(layer(x, *given[1:])).square().sum().backward()
    require(x.grad is not None and bool(torch.isfinite(x.grad).all()), layer_class, "must pass gradients to its input")
    if any(p.requires_grad for p in layer.parameters()):
        require(
            any(p.grad is not None for p in layer.parameters()), layer_class, "must pass gradients to its parameters"
        )  # fmt: skip
    names = inspect.signature(layer_class).parameters
    if "device" in names and "dtype" in names:
        made = make_layer(layer_class, device="meta", dtype=torch.bfloat16)
        kinds = {(p.device.type, p.dtype) for p in made.parameters()}
        require(kinds <= {("meta", torch.bfloat16)}, layer_class, "must make its parameters on `device`, of `dtype`")


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output
