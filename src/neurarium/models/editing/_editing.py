"""A model as a sequence of layers, some of which can be taken out or made smaller; shapes are repaired around them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from neurarium.models.editing._architecture import Architecture
from neurarium.models.editing._empty_branches import close_branches
from neurarium.models.editing._slicing import extract
from neurarium.training import copy_module, evaluation

KINDS = ("convolution", "linear", "norm", "activation", "pooling", "dropout", "other")
LARGEST_INPUT = 50_000
"""Most inputs of a linear layer that a removed pooling may lead to."""


@dataclass(frozen=True)
class Layer:
    """One layer, as a search sees it.

    Args:
        name: of the module.
        kind: one of `KINDS`.
        kernel: side of the kernel; 0 where there is none, as for the next two.
        stride: of the kernel.
        padding: of the kernel.
        units: outputs or channels; 0 for layers without.
        removable: whether it may be taken out: neither the first nor the last layer, not a linear layer, an average
            pooling or a strided convolution.
    """

    name: str
    kind: str
    kernel: int = 0
    stride: int = 0
    padding: int = 0
    units: int = 0
    removable: bool = False

    @property
    def features(self) -> tuple[float, ...]:
        """Kind, kernel, stride, padding, units."""
        return (float(KINDS.index(self.kind)), *map(float, (self.kernel, self.stride, self.padding, self.units)))


@torch.no_grad()
def describe(model: nn.Module, example: Any) -> list[Layer]:
    """The layers of a model in the order in which they run, each once. Functions without a module are not seen.

    Raises:
        ValueError: the model has no layer with weights.
    """
    order: dict[str, nn.Module] = {}
    handles = []
    for name, module in model.named_modules():
        if not list(module.children()):
            handles.append(module.register_forward_pre_hook(lambda m, _, name=name: order.update({name: m})))
    try:
        _run(model, example)
    finally:
        for handle in handles:
            handle.remove()
    weighted = [name for name, m in order.items() if _kind(m) in ("convolution", "linear")]
    if not weighted:
        raise ValueError("the model has no linear or convolutional layer")
    return [_layer(name, module, name in (weighted[0], weighted[-1])) for name, module in order.items()]


def remove_layers(model: nn.Module, example: Any, names: Collection[str]) -> nn.Module:
    """A copy without some layers; those behind them take what now reaches them, with new weights.

    Without all of its layers a residual block is the identity.

    Raises:
        ValueError: a layer that cannot be removed, or a model that does not run without them.
    """
    allowed = {layer.name for layer in describe(model, example) if layer.removable}
    for name in names:
        if name not in allowed:
            raise ValueError(f"{name!r} cannot be removed; the layers that can are {', '.join(sorted(allowed))}")
    result = copy_module(model)
    for name in names:
        owner, _, key = name.rpartition(".")
        setattr(result.get_submodule(owner), key, nn.Identity())
    if names:
        _refit(result, example)
        close_branches(result, lambda: _run(result, example), names)
    return result


def shrink(
    model: nn.Module, example: Any, architecture: Architecture, units: Mapping[int, int], kernels: Mapping[str, int]
) -> nn.Module:
    """A copy with fewer units per group and smaller kernels.

    Args:
        model: the traced model.
        example: what it runs on.
        architecture: of `trace_architecture`.
        units: units left, per group.
        kernels: side of the kernel, by the name of the convolution; its padding shrinks along.

    Raises:
        ValueError: the model does not run with these kernels.
        TypeError: a kernel of something that is no convolution.
    """
    result = extract(model, architecture, units)
    for name, side in kernels.items():
        conv = result.get_submodule(name)
        if not isinstance(conv, nn.modules.conv._ConvNd):
            raise TypeError(f"kernels names {name!r}, which is no convolution")
        small = tuple(min(side, k) for k in conv.kernel_size)
        if isinstance(conv.padding, tuple):
            conv.padding = tuple(max(p - (k - s) // 2, 0) for p, k, s in zip(conv.padding, conv.kernel_size, small))
        conv.kernel_size = small
        conv.weight = nn.Parameter(conv.weight.new_empty(*conv.weight.shape[:2], *small))
        conv.reset_parameters()
    return _refit(result, example) if kernels else result


def reset(model: nn.Module) -> nn.Module:
    """New weights from torch's generator in every layer that knows how to draw them."""
    for module in model.modules():
        draw = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if callable(draw):
            draw()
    return model


def _refit(model: nn.Module, example: Any) -> nn.Module:
    """Give every layer the input size that reaches it, from first to last."""
    handles = [m.register_forward_pre_hook(_fit) for m in model.modules() if not list(m.children())]
    try:
        _run(model, example)
    except RuntimeError as error:
        raise ValueError(f"the model does not run in this form: {str(error).splitlines()[0]}") from error
    finally:
        for handle in handles:
            handle.remove()
    return model


def _fit(module: nn.Module, inputs: tuple[Any, ...]) -> None:
    x = inputs[0]
    if isinstance(module, nn.Linear) and x.shape[-1] != module.in_features:
        if x.shape[-1] > LARGEST_INPUT:
            raise ValueError(f"a linear layer would have {x.shape[-1]:,} inputs, more than {LARGEST_INPUT:,}")
        _renew(module, nn.Linear(x.shape[-1], module.out_features, module.bias is not None))
    elif isinstance(module, nn.modules.conv._ConvNd) and x.shape[1] != module.in_channels:
        if module.groups not in (1, module.in_channels):
            raise ValueError("a convolution in groups cannot take another number of channels")
        depthwise, kind = module.groups > 1, cast(Any, type(module))
        _renew(module, kind(
            x.shape[1], x.shape[1] if depthwise else module.out_channels, module.kernel_size, module.stride,
            module.padding, dilation=module.dilation, groups=x.shape[1] if depthwise else 1,
            bias=module.bias is not None,
        ))  # fmt: skip
    elif isinstance(module, nn.modules.batchnorm._BatchNorm) and x.shape[1] != module.num_features:
        _renew(module, type(module)(
            x.shape[1], module.eps, module.momentum, module.affine, module.track_running_stats
        ))  # fmt: skip
    elif (
        isinstance(module, nn.LayerNorm) and tuple(x.shape[-len(module.normalized_shape) :]) != module.normalized_shape
    ):
        _renew(module, nn.LayerNorm(tuple(x.shape[-len(module.normalized_shape) :]), module.eps))


def _renew(module: nn.Module, other: nn.Module) -> None:
    """Make a layer what another one is, in place, so that the hooks and names around it stay."""
    weight = next(module.parameters(), None)
    if weight is not None:
        other.to(weight.device, weight.dtype)
    module._parameters, module._buffers = other._parameters, other._buffers
    for key in ("in_features", "in_channels", "out_channels", "groups", "num_features", "normalized_shape"):
        if key in other.__dict__:
            module.__dict__[key] = other.__dict__[key]


@torch.no_grad()
def _run(model: nn.Module, example: Any) -> None:
    with evaluation(model):
        model(*example) if isinstance(example, tuple) else model(example)


def _layer(name: str, module: nn.Module, end: bool) -> Layer:
    kind = _kind(module)

    def side(attribute: str) -> int:
        value = getattr(module, attribute, 0)
        value = value[0] if isinstance(value, tuple) else value
        return value if isinstance(value, int) else 0

    kernel, stride, padding = side("kernel_size"), side("stride"), side("padding")
    units = next((side(a) for a in ("out_channels", "out_features", "num_features") if side(a)), 0)
    average = "AvgPool" in type(module).__name__
    removable = kind not in ("linear", "other") and not end and not average
    removable = removable and not (kind == "convolution" and stride > 1)
    return Layer(name, kind, kernel, stride, padding, units, removable)


def _kind(module: nn.Module) -> str:
    if isinstance(module, nn.modules.conv._ConvNd):
        return "convolution"
    if isinstance(module, nn.Linear):
        return "linear"
    if isinstance(module, (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)):
        return "norm"
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return "dropout"
    if "Pool" in type(module).__name__:
        return "pooling"
    if type(module).__module__ == "torch.nn.modules.activation" and not isinstance(module, nn.MultiheadAttention):
        return "activation"
    return "other"
