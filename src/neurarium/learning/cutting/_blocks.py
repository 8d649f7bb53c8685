"""Cutting a network at its blocks: one forward pass, no gradient from one block into the one below.

Local rules differ in the signal they give each block; the cut is the same. A forward hook keeps a block's output (the
end of its graph) and hands on a detached copy, so any module can be cut, not a list of known layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Cut:
    """What passed one cut in a forward pass.

    Args:
        output: the block's own output; its graph ends at the cut below.
        handed: the detached leaf that the rest of the network saw.
        module: whose output it is.
    """

    output: Tensor
    handed: Tensor
    module: nn.Module


@contextmanager
def cut_at(points: Sequence[nn.Module], *, watch: bool = False) -> Iterator[list[Cut]]:
    """Within the context, a forward pass is cut at the output of every module in ``points``.

    Args:
        points: modules whose (tensor) output is the end of a block, each called once per pass.
        watch: let the handed copies require a gradient, so that the error arriving at each cut can be read.

    Yields:
        The cuts in the order in which the pass reached them.
    """
    cuts: list[Cut] = []

    def hook(module: nn.Module, arguments: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor):
            raise TypeError(
                f"a block must return one tensor to be cut, but {type(module).__name__} returned "
                f"{type(output).__name__}; name other blocks"
            )
        handed = output.detach().requires_grad_(watch)
        cuts.append(Cut(output, handed, module))
        return handed

    handles = [point.register_forward_hook(hook) for point in points]
    try:
        yield cuts
    finally:
        for handle in handles:
            handle.remove()


Blocks = Sequence[str] | type[nn.Module] | tuple[type[nn.Module], ...] | None
"""How a user names blocks: by qualified names, by type, or None to have them found."""


def find_blocks(model: nn.Module, blocks: Blocks = None) -> list[tuple[str, nn.Module]]:
    """The modules at whose outputs a network is cut, in the order of definition, the last one included.

    Args:
        model: the network.
        blocks: qualified module names, a module type (or several), or None: the children of a `Sequential` (a layer
            with the parameterless layers that follow it is one block, cut after the last of these), else those of the
            longest `Sequential` or `ModuleList` inside (with whatever comes after as the last block), else the leaf
            modules that have parameters.

    Raises:
        ValueError: no block was found, or a name does not exist.
    """
    named = dict(model.named_modules())
    if blocks is None:
        found = _discover(model)
    elif isinstance(blocks, type) or (isinstance(blocks, tuple) and all(isinstance(b, type) for b in blocks)):
        found = [(name, module) for name, module in named.items() if isinstance(module, blocks)]
    else:
        names = [str(name) for name in blocks]
        for name in names:
            if name not in named or not name:
                raise ValueError(
                    f"blocks: the model has no module named {name!r}; it has {', '.join(list(named)[1:9])}"
                )
        found = [(name, named[name]) for name in names]
    if not found:
        raise ValueError(f"no block found in {type(model).__name__}; name them with blocks=[...]")
    return found


def _discover(model: nn.Module) -> list[tuple[str, nn.Module]]:
    if isinstance(model, nn.Sequential):
        return _grouped("", model)
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, (nn.Sequential, nn.ModuleList)) and sum(map(_has_parameters, module.children())) >= 2
    ]
    if lists:
        name, longest = max(lists, key=lambda item: sum(map(_has_parameters, item[1].children())))
        return _grouped(name + ".", longest)
    return [(n, m) for n, m in model.named_modules() if _has_parameters(m) and not any(m.children())]


def _grouped(prefix: str, container: nn.Module) -> list[tuple[str, nn.Module]]:
    """Children of a container, each parametrised one joined with the parameterless ones behind it."""
    groups: list[tuple[str, nn.Module]] = []
    for name, child in container.named_children():
        if _has_parameters(child):
            groups.append((prefix + name, child))
        elif groups and isinstance(container, nn.Sequential):
            groups[-1] = (prefix + name, child)
    return groups


def _has_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def backward_all(outputs: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Run the blocks' backward passes in one call of the engine; outputs without a graph are left out."""
    pairs = [(o, g) for o, g in zip(outputs, gradients, strict=True) if o.requires_grad]
    if pairs:
        torch.autograd.backward([o for o, _ in pairs], [g for _, g in pairs])
