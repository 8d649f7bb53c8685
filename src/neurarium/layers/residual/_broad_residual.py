"""Parallel branches that are alike, as one wide layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from neurarium.layers.residual._parallel_residual import ParallelResidual
from neurarium.layers.residual._residual import _Residual

WIDE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
ELEMENTWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Mish, nn.ELU, nn.CELU, nn.SELU, nn.Softplus, nn.Softsign,
    nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Identity,
)  # fmt: skip


class BroadResidual(_Residual):
    """``x + Σ_i activation(W_i x + b_i)`` with all W_i in one layer: one product, the activation, a sum over groups.

    The numbers are those of `ParallelResidual` over the single branches, with one call where there were many.

    Args:
        module: a linear layer or convolution that gives ``branches`` times the channels of its input.
        activation: elementwise, behind it; none by default.
        branches: how many layers it holds.

    Raises:
        TypeError: ``module`` is neither.
        ValueError: the outputs cannot be divided among the branches; in the forward pass, if the sum has another shape
            than the input.
    """

    def __init__(self, module: nn.Module, activation: nn.Module | None = None, branches: int = 1) -> None:
        super().__init__()
        if not isinstance(module, WIDE):
            raise TypeError(f"module must be a linear layer or a convolution, not {type(module).__name__}")
        outputs = module.out_features if isinstance(module, nn.Linear) else module.out_channels
        if branches < 1 or outputs % branches:
            raise ValueError(f"branches must divide the {outputs} outputs of the module, not be {branches}")
        self.module: Any = module
        self.activation = nn.Identity() if activation is None else activation
        self.branches = branches

    @classmethod
    def fuse(cls, branches: Sequence[nn.Module]) -> BroadResidual:
        """One wide layer of many narrow ones, with parameters of its own.

        Args:
            branches: linear layers or convolutions, each alone or in a `Sequential` with an elementwise activation
                behind it; all of one kind and size.

        Raises:
            ValueError: there is none, or they are not alike; the message says in what.
        """
        if not branches:
            raise ValueError("branches must hold one module at least")
        parts = [_parts(index, branch) for index, branch in enumerate(branches)]
        (first, activation), kinds = parts[0], [_kind(layer, activation) for layer, activation in parts]
        for index, kind in enumerate(kinds):
            for name, value in kind.items():
                if value != kinds[0].get(name, value):
                    raise ValueError(f"branches 0 and {index} are not alike: {name} {kinds[0][name]} and {value}")
        layers = [layer for layer, _ in parts]
        return cls(_joined(layers), activation, len(branches)).train(first.training)

    def unfuse(self) -> ParallelResidual:
        """The narrow layers again, with parameters of their own."""
        weights, biases = self.module.weight.chunk(self.branches), None
        if self.module.bias is not None:
            biases = self.module.bias.chunk(self.branches)
        narrow = []
        for index, weight in enumerate(weights):
            layer = _like(self.module, len(weight), weight, None if biases is None else biases[index])
            narrow.append(nn.Sequential(layer, self.activation))
        return ParallelResidual(*narrow).train(self.training)

    def branch(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """What all branches add."""
        made: Tensor = self.activation(self.module(x))
        dim = -1 if isinstance(self.module, nn.Linear) else -1 - len(self.module.kernel_size)
        return made.unflatten(dim, (self.branches, -1)).sum(dim - 1)

    def merge(self, x: Float[Tensor, "*shape"], z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """``x + z``."""
        if z.shape != x.shape:
            raise ValueError(f"the branches map {list(x.shape)} to {list(z.shape)}: they must keep the shape")
        return x + z

    def carry(self, x: Float[Tensor, "*shape"], z: Float[Tensor, "*shape"]) -> float:
        """1."""
        return 1.0

    def extra_repr(self) -> str:
        """The number of branches."""
        return f"branches={self.branches}"


def _parts(index: int, branch: nn.Module) -> tuple[Any, nn.Module]:
    """A branch's layer and activation."""
    members: list[nn.Module] = list(branch) if isinstance(branch, nn.Sequential) else [branch]
    if len(members) == 1:
        members.append(nn.Identity())  # nothing behind it
    if len(members) != 2 or type(members[0]) not in WIDE or type(members[1]) not in ELEMENTWISE:
        kinds = ", ".join(type(member).__name__ for member in members)
        raise ValueError(
            f"branch {index} is not a linear layer or convolution with an elementwise activation, but {kinds}"
        )
    if parametrize.is_parametrized(members[0]):
        raise ValueError(f"branch {index} is parametrized, which a wide layer would lose")
    return members[0], members[1]


def _kind(layer: Any, activation: nn.Module) -> dict[str, object]:
    """All that must agree."""
    names = ("in_features", "out_features", "in_channels", "out_channels", "kernel_size", "stride", "padding")
    found: dict[str, object] = {"layer": type(layer).__name__, "activation": repr(activation)}
    found |= {name: getattr(layer, name) for name in (*names, "dilation", "padding_mode") if hasattr(layer, name)}
    if getattr(layer, "groups", 1) != 1:
        raise ValueError(f"a convolution of {layer.groups} groups cannot be part of a wide layer")
    weight = layer.weight
    return found | {"bias": layer.bias is not None, "device": weight.device, "dtype": weight.dtype}


def _joined(layers: Sequence[Any]) -> nn.Module:
    weight = torch.cat([layer.weight for layer in layers])
    bias = None if layers[0].bias is None else torch.cat([layer.bias for layer in layers])
    return _like(layers[0], len(weight), weight, bias)


def _like(layer: Any, outputs: int, weight: Tensor, bias: Tensor | None) -> Any:
    """A layer of the same kind with other weights, and so many outputs."""
    new: Any
    if isinstance(layer, nn.Linear):
        new = nn.Linear(layer.in_features, outputs, bias is not None, device="meta")
    else:
        new = type(layer)(
            layer.in_channels, outputs, layer.kernel_size, layer.stride, layer.padding, layer.dilation, 1,
            bias is not None, layer.padding_mode, device="meta",
        )  # fmt: skip
    new.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        new.bias = nn.Parameter(bias.detach().clone())
    return new.train(layer.training)
