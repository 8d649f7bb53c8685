"""Reorder the hidden units of a network so that its weights lie as close as they can to another network's.

Exchanging two hidden units, with the weights into and out of them, changes no output: every solution has a great many
equal copies. Part of the barrier between two solutions is due to that alone. The reordering found here is the one of
largest inner product of the weights, by coordinate descent over layers, each step an exact assignment ("weight
matching", Ainsworth et al. 2023).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from neurarium.layers import Maxout
from neurarium.probes.loss_surface._parameter_space import named_point
from neurarium.training import copy_module

_AFFINE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, Maxout)
_PER_UNIT = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.PReLU)
MAX_PIECES = 6


def align_units(model: nn.Module, reference: nn.Module, inputs: Any, *, sweeps: int = 100) -> nn.Module:
    """A copy of ``model`` that computes the same function, its hidden units in the order closest to ``reference``'s.

    For chains of linear, convolutional and `Maxout` layers (whose pieces are reordered too), with elementwise
    activations, pooling, flattening, normalisation per unit (`BatchNorm`, `LayerNorm`, `PReLU`) and dropout between.

    Args:
        model: the network to reorder; left as it was.
        reference: a network of the same architecture.
        inputs: a few examples (one batch). They show in which order the layers are used, and that the outputs do not
            change. The weights alone decide the order of the units.
        sweeps: at most so many passes over the layers; it stops when a pass changes nothing.

    Raises:
        ValueError: the architectures differ, there is no hidden layer, or the layers do not form a chain (a skip
            connection ties the order of the units it joins).
        TypeError: a layer with parameters is not of the kinds above.
    """
    named_point(model, reference, "reference")
    aligned = copy_module(model).eval()
    before, links = _chain(aligned, inputs)
    targets = [_Weights.of(reference.get_submodule(link.name), link.fan_in) for link in links]
    weights = [_Weights.of(aligned.get_submodule(link.name), link.fan_in) for link in links]
    orders = _coordinate_descent(weights, targets, sweeps)
    with torch.no_grad():
        for link, weight in zip(links, weights):
            weight.write(aligned.get_submodule(link.name))
        for link, order in zip(links, orders):  # one fewer than links: the outputs keep their order
            for name in link.followers:
                for tensor in (*aligned.get_submodule(name).parameters(), *aligned.get_submodule(name).buffers()):
                    if tensor.dim() == 1 and len(tensor) == len(order):
                        tensor.copy_(tensor[order])
        after = aligned(inputs)
    scale = float(before.abs().max())
    if not torch.allclose(before, after, rtol=1e-3, atol=1e-4 * scale):
        raise ValueError("the model's layers do not form a chain: reordering their units changes what it computes")
    for original, module in zip(model.modules(), aligned.modules()):
        module.training = original.training
    return aligned


@dataclass
class _Link:
    """A layer of the chain: its name, the units it reads from, and the per-unit layers between it and the next one."""

    name: str
    fan_in: int
    followers: list[str]


def _chain(model: nn.Module, inputs: Any) -> tuple[Tensor, list[_Link]]:
    """The output, and the layers in the order of use."""
    links: list[_Link] = []
    seen: set[str] = set()

    def note(name: str, module: nn.Module) -> None:
        if name in seen:
            raise ValueError(f"the layer {name!r} is used twice; its units cannot be reordered in one place only")
        seen.add(name)
        if isinstance(module, _AFFINE):
            if getattr(module, "groups", 1) != 1:
                raise ValueError(f"the layer {name!r} is a grouped convolution; only groups=1 can be aligned")
            links.append(_Link(name, _units(model.get_submodule(links[-1].name)) if links else 0, []))
        elif isinstance(module, _PER_UNIT):
            if links:
                links[-1].followers.append(name)
        else:
            raise TypeError(f"the layer {name!r} ({type(module).__name__}) has parameters but is of no kind to align")

    hooks = [
        module.register_forward_hook(lambda module, _, __, name=name: note(name, module))
        for name, module in model.named_modules()
        if next(module.parameters(recurse=False), None) is not None or isinstance(module, _PER_UNIT)
    ]
    try:
        with torch.no_grad():
            output = model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    if len(links) < 2:
        raise ValueError("the model has no hidden layer between two linear or convolutional layers to align")
    for link in links[1:]:
        width = _width(model.get_submodule(link.name))
        if width % link.fan_in:
            raise ValueError(f"the layer {link.name!r} reads {width} features, not a multiple of {link.fan_in} units")
    return output, links


def _units(module: nn.Module) -> int:
    return int(module.weight.shape[0])  # type: ignore[index]


def _width(module: nn.Module) -> int:
    """Input features, or channels."""
    return int(module.weight.shape[2 if isinstance(module, Maxout) else 1])  # type: ignore[index]


@dataclass
class _Weights:
    """A layer's parameters in one form: weight ``[units, pieces, inputs, rest]``, bias ``[units, pieces]`` or None."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, module: Any, fan_in: int) -> _Weights:
        """``fan_in`` units feed the layer, each by ``rest`` weights per unit and piece; 0: the input."""
        pieces = module.pieces if isinstance(module, Maxout) else 1
        weight = module.weight.detach().double()
        bias = None if module.bias is None else module.bias.detach().double().reshape(len(weight), pieces)
        return cls(weight.reshape(len(weight), pieces, fan_in or _width(module), -1), bias)

    def write(self, module: Any) -> None:
        module.weight.copy_(self.weight.reshape(module.weight.shape))
        if self.bias is not None:
            module.bias.copy_(self.bias.reshape(module.bias.shape))

    def agreement(self, target: _Weights) -> float:
        """Inner product with the target's weights and biases, in the present order."""
        total = (self.weight * target.weight).sum()
        if self.bias is not None and target.bias is not None:
            total = total + (self.bias * target.bias).sum()
        return float(total)

    def incoming(self, target: _Weights) -> tuple[Tensor, Tensor]:
        """Inner products of target unit i and own unit j, and the order of j's pieces that gives them."""
        products = torch.einsum("ipnr,jqnr->ijpq", target.weight, self.weight)
        if self.bias is not None and target.bias is not None:
            products = products + torch.einsum("ip,jq->ijpq", target.bias, self.bias)
        pieces = products.shape[-1]
        if pieces > MAX_PIECES:
            raise ValueError(f"maxout layers of up to {MAX_PIECES} pieces can be aligned, not of {pieces}")
        choices = torch.tensor(list(itertools.permutations(range(pieces))), device=products.device)
        totals = sum(products[:, :, p, choices[:, p]] for p in range(pieces))
        best, index = torch.as_tensor(totals).max(-1)
        return best, choices[index]

    def outgoing(self, target: _Weights) -> Tensor:
        """Inner products of the weights out of unit i of the layer below, in the target, and of its unit j here."""
        return torch.einsum("upir,upjr->ij", target.weight, self.weight)

    def reorder(self, order: Tensor, pieces: Tensor) -> None:
        """New unit i is old unit ``order[i]``, its pieces in the order ``pieces[i]``."""
        index = pieces[:, :, None, None].expand(-1, -1, *self.weight.shape[2:])
        self.weight = self.weight[order].gather(1, index)
        if self.bias is not None:
            self.bias = self.bias[order].gather(1, pieces)


def _coordinate_descent(weights: list[_Weights], targets: list[_Weights], sweeps: int) -> list[Tensor]:
    """Reorder all hidden layers in place; returns each one's order (new unit i is old unit ``order[i]``).

    The first pass looks at incoming weights alone, layer after layer: it finds a shuffled copy at once, and is a
    better start than the order in which units happen to lie.
    """
    hidden = range(len(weights) - 1)
    orders = [torch.arange(len(weights[layer].weight), device=weights[layer].weight.device) for layer in hidden]
    for sweep in range(sweeps + 1):
        changed = False
        for layer in hidden:
            products, pieces = weights[layer].incoming(targets[layer])
            present = weights[layer].agreement(targets[layer])
            if sweep > 0:
                outgoing = weights[layer + 1].outgoing(targets[layer + 1])
                products, present = products + outgoing, present + float(outgoing.diagonal().sum())
            rows, columns = linear_sum_assignment(products.cpu().numpy(), maximize=True)
            order = torch.as_tensor(columns, device=products.device)
            gain = float(products[rows, columns].sum()) - present
            if sweep > 0 and gain <= 1e-9 * float(products.abs().sum()):
                continue
            changed = True
            weights[layer].reorder(order, pieces[torch.arange(len(order)), order])
            weights[layer + 1].weight = weights[layer + 1].weight[:, :, order]
            orders[layer] = orders[layer][order]
        if sweep > 0 and not changed:
            break
    return orders
