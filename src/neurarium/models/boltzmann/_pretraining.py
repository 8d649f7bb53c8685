"""Greedy pre-training of a network that somebody else made: each sigmoid layer as a machine of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neurarium.layers import SparseLinear
from neurarium.models.boltzmann._contrastive_divergence import fit_rbm, inputs_of
from neurarium.models.boltzmann._rbm import RBM
from neurarium.training import arguments_of, evaluation


class _Reached(Exception):
    """The layer that was waited for has been given its input."""


def pretrain_layers(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    epochs: int = 10,
    learning_rate: float | None = None,
    generator: torch.Generator | None = None,
    **options: Any,
) -> dict[str, RBM]:
    """Start a network where its sigmoid layers each model their input, without labels.

    Every linear layer (dense or sparse) that a `nn.Sigmoid` follows is drawn anew, small, and trained in place as a
    restricted Boltzmann machine on what reaches it, from the inputs up. A pattern of zeros stays: sparse layers as they
    are, pruned ones (`torch.nn.utils.prune`) not, since their weight is no parameter.

    Args:
        model: any network; layers are taken in the order in which they were registered.
        loader: batches of inputs, alone or with targets, which are not looked at.
        epochs: passes for each layer.
        learning_rate: None for the default of `fit_rbm`.
        generator: source of the initial weights and the draws.
        options: more of `fit_rbm`: momentum, weight_decay, steps, persistent.

    Returns:
        Name of the layer -> its machine, which shares its weights.

    Raises:
        ValueError: no linear layer is followed by a sigmoid; or one has no bias, or a weight that is no parameter.
    """
    found: dict[str, RBM] = {}
    leaves = [(name, module) for name, module in model.named_modules() if next(module.children(), None) is None]
    for (name, layer), (_, after) in itertools.pairwise(leaves):
        if not isinstance(layer, (nn.Linear, SparseLinear)) or not isinstance(after, nn.Sigmoid):
            continue
        if not any(p is not layer.bias for p in layer._parameters.values()) or hasattr(layer, "weight_orig"):
            raise ValueError(f"the weight of {name} is computed from other parameters and cannot be trained by itself")
        inputs = _Inputs(model, layer, loader)
        first = next(iter(inputs), None)
        if first is None:
            raise ValueError("the loader gave no batch")
        units: Literal["binary", "gaussian"] = "binary" if first.min() >= 0 and first.max() <= 1 else "gaussian"
        machine = RBM.around(layer, units)
        machine.reset_parameters(generator)
        found[name] = fit_rbm(
            machine, inputs, epochs=epochs, learning_rate=learning_rate, generator=generator, **options
        )  # fmt: skip
    if not found:
        raise ValueError(f"{type(model).__name__} has no linear layer that a nn.Sigmoid follows: nothing to pre-train")
    return found


class _Inputs:
    """What reaches a layer, batch by batch; the rest of the network does not run."""

    def __init__(self, model: nn.Module, layer: nn.Module, loader: Iterable[Any]) -> None:
        self.model, self.layer, self.loader = model, layer, loader

    def __iter__(self) -> Iterator[Tensor]:
        for batch in self.loader:
            kept: list[Tensor] = []

            def keep(_: nn.Module, arguments: tuple[Tensor, ...], kept: list[Tensor] = kept) -> None:
                kept.append(arguments[0].detach())
                raise _Reached

            handle = self.layer.register_forward_pre_hook(keep)
            positional, named = arguments_of(self.model, inputs_of(batch)[0])
            try:
                with torch.no_grad(), evaluation(self.model):
                    self.model(*positional, **named)
            except _Reached:
                pass
            finally:
                handle.remove()
            if kept:
                yield kept[0].flatten(0, -2)
