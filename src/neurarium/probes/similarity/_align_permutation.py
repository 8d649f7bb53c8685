"""Put the units of one layer in another order and rewire what reads them, so that the network computes the same."""

from __future__ import annotations

import copy
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from neurarium.probes.similarity._unit_alignment import _chain, _units, _Weights


@torch.no_grad()
def align_permutation(model: nn.Module, layer: str, permutation: Int[Tensor, " units"], inputs: Any) -> nn.Module:
    """A copy of ``model`` with the units of one layer reordered and its function unchanged.

    The weights into and out of the layer move, with what normalisation keeps per unit. With the permutation of
    `match_units` (a the reference, b the model) unit i of the copy is the partner of the reference's unit i.

    Args:
        model: a chain of linear and convolutional layers, as `align_units` takes it; left as it was.
        layer: name of the linear or convolutional layer, or of an activation or normalisation behind it.
        permutation: new unit i is old unit ``permutation[i]``.
        inputs: a few examples. They show the order of the layers and that the outputs stay.

    Raises:
        ValueError: no such layer, ``permutation`` is none of its units, or the units cannot be moved alone: the layer
            is the last one, or a skip connection adds its units to others, whose order would have to change as well.
    """
    copied = copy.deepcopy(model).eval()
    before, links = _chain(copied, inputs)
    names = [name for name, _ in copied.named_modules()]
    if layer not in names:
        raise ValueError(f"the model has no layer {layer!r}; the layers are {', '.join(link.name for link in links)}")
    behind = names.index(layer)
    at = max((i for i, link in enumerate(links) if names.index(link.name) <= behind), default=-1)
    if at < 0:
        raise ValueError(f"there is no linear or convolutional layer before {layer!r}")
    if at == len(links) - 1:
        raise ValueError(f"{links[at].name!r} is the last layer: the order of its units is the order of the outputs")
    link, successor = links[at], links[at + 1]
    units = _units(copied.get_submodule(link.name))
    order = permutation.to(before.device).long()
    if sorted(order.tolist()) != list(range(units)):
        raise ValueError(f"permutation must hold each of the {units} units of {link.name!r} once")
    weights, after = (_Weights.of(copied.get_submodule(part.name), part.fan_in) for part in (link, successor))
    pieces = torch.arange(weights.weight.shape[1], device=order.device).expand(units, -1)
    weights.reorder(order, pieces)
    after.weight = after.weight[:, :, order]
    weights.write(copied.get_submodule(link.name))
    after.write(copied.get_submodule(successor.name))
    for name in link.followers:
        part = copied.get_submodule(name)
        for tensor in (*part.parameters(), *part.buffers()):
            if tensor.dim() == 1 and len(tensor) == units:
                tensor.copy_(tensor[order])
    outputs = copied(inputs)
    if not torch.allclose(before, outputs, rtol=1e-3, atol=1e-4 * float(before.abs().max())):
        raise ValueError(
            f"reordering the units of {link.name!r} changes the outputs: they are joined with others (a skip "
            "connection?), whose order would have to change as well"
        )
    for original, module in zip(model.modules(), copied.modules()):
        module.training = original.training
    return copied
