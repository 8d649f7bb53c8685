"""Taking the affine maps out of a network that is trained: their numbers go into the linear layers beside them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.layers._conversion import Conversion
from neurarium.layers.mixing._affine import Affine
from neurarium.layers.mixing._cross_patch import CrossPatch, TokenMean
from neurarium.training import call, copy_module, evaluation, replace_module

Call = tuple[str, nn.Module, Tensor, Tensor]


@torch.no_grad()
def fold_affine(model: nn.Module, x: Any) -> Conversion:
    """A copy of the model without its `Affine` maps wherever a linear layer beside one can take its numbers.

    An affine map goes into the one linear layer (or `CrossPatch`) that reads it, past an average over tokens too; one
    that nothing linear reads goes into the linear layer before it. Which reads which is seen in one forward pass, and
    every step is tried: where the outputs would change, the map stays and is named.

    Args:
        model: any module, used in evaluation mode.
        x: a batch, as `training.call` takes it.

    Raises:
        ValueError: nothing could be folded.
    """
    folded = copy_module(model)
    changed: dict[str, str] = {}
    skipped: dict[str, str] = {}
    with evaluation(folded):
        expected = call(folded, x)
        for name in [name for name, module in folded.named_modules() if isinstance(module, Affine)]:
            affine = folded.get_submodule(name)
            where, into, why = _partner(_watch(folded, x), name)
            if into is None or not isinstance(affine, Affine):
                skipped[name] = why
                continue
            before = copy.deepcopy(into.state_dict()), (into.bias, getattr(into, "scale", None), affine)
            (_into_reader if where == "reader" else _into_writer)(affine, into)
            folded = replace_module(folded, name, nn.Identity())
            if torch.allclose(
                call(folded, x), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max().clamp_min(1))
            ):
                changed[name] = repr(affine)
                continue
            folded = replace_module(folded, name, affine)
            _restore(into, *before)
            skipped[name] = "something else reads or writes it too, and the outputs would change"
    if not changed:
        reasons = "".join(f"; {name}: {why}" for name, why in skipped.items())
        raise ValueError(f"nothing to fold in {type(model).__name__}: looked for Affine beside a linear layer{reasons}")
    return Conversion(folded, changed, skipped)


def _watch(model: nn.Module, x: Any) -> list[Call]:
    """Every use of a module without children that takes and gives a tensor."""
    calls: list[Call] = []

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: tuple[Any, ...], made: Any) -> None:
            if given and isinstance(given[0], Tensor) and isinstance(made, Tensor) and made is not given[0]:
                calls.append((name, module, given[0], made))

        return hook

    handles = [
        module.register_forward_hook(keep(name))
        for name, module in model.named_modules()
        if next(module.children(), None) is None
    ]
    try:
        call(model, x)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _partner(calls: list[Call], name: str) -> tuple[str, Any, str]:
    """The layer that can take an affine map's numbers, and whether it reads or writes what the map sees."""
    uses = [made for other, _, _, made in calls if other == name]
    entered = [given for other, _, given, _ in calls if other == name]
    if len(uses) != 1:
        return "", None, f"is used {len(uses)} times"
    readers = [(other, module, made) for other, module, given, made in calls if given is uses[0]]
    while len(readers) == 1 and isinstance(readers[0][1], TokenMean):
        readers = [(other, module, made) for other, module, given, made in calls if given is readers[0][2]]
    linear = [module for _, module, _ in readers if isinstance(module, (nn.Linear, CrossPatch))]
    if len(readers) == 1 and linear:
        return "reader", linear[0], ""
    writers = [module for _, module, _, made in calls if made is entered[0]]
    beside = [other for other, _, given, _ in calls if given is entered[0] and other != name]
    if len(writers) == 1 and isinstance(writers[0], (nn.Linear, CrossPatch)) and not beside:
        return "writer", writers[0], ""
    if len(readers) > 1:
        return "", None, f"is read by {' and '.join(other for other, _, _ in readers)}"
    return "", None, "no linear layer stands before or behind it"


def _into_reader(affine: Affine, layer: nn.Linear | CrossPatch) -> None:
    """``layer(weight x + bias)`` as one layer."""
    if isinstance(layer, nn.Linear):
        if affine.bias is not None:
            _add_bias(layer, layer.weight @ affine.bias)
        layer.weight.mul_(affine.weight)
        return
    scale, shift = _channelled(layer, affine)
    if affine.bias is not None:  # ahead of the scale: W (bias 1') = rowsum(W) bias'
        shift = shift + scale * layer.matrix(len(layer.weight)).sum(1)[:, None] * affine.bias
    if layer.bias is not None:  # the scale of the input must not meet the layer's own bias
        shift = shift + scale * layer.bias[:, None]
        layer.bias = None
    layer.scale, layer.shift = nn.Parameter(scale * affine.weight), nn.Parameter(shift)


def _into_writer(affine: Affine, layer: nn.Linear | CrossPatch) -> None:
    """``weight layer(x) + bias`` as one layer."""
    added = torch.zeros_like(affine.weight) if affine.bias is None else affine.bias
    if isinstance(layer, nn.Linear):
        layer.weight.mul_(affine.weight[:, None])
        if layer.bias is not None:
            layer.bias.mul_(affine.weight)
        _add_bias(layer, added)
        return
    scale, shift = _channelled(layer, affine)
    layer.scale, layer.shift = nn.Parameter(scale * affine.weight), nn.Parameter(shift * affine.weight + added)


def _channelled(layer: CrossPatch, affine: Affine) -> tuple[Tensor, Tensor]:
    if layer.scale is not None and layer.shift is not None:
        return layer.scale, layer.shift
    return torch.ones_like(affine.weight), affine.weight.new_zeros(len(layer.weight), len(affine.weight))


def _add_bias(layer: nn.Linear, added: Tensor) -> None:
    if layer.bias is None:
        layer.bias = nn.Parameter(added.clone())
    else:
        layer.bias.add_(added)


def _restore(layer: Any, state: dict[str, Tensor], kept: tuple[Any, ...]) -> None:
    layer.bias = kept[0]
    if isinstance(layer, CrossPatch) and kept[1] is None:
        layer.scale = layer.shift = None
    layer.load_state_dict(state)
