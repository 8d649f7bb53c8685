"""Which parameters the inputs of a network meet first, by watching it run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from neurarium.training import undisturbed


def reached_first(model: nn.Module, x: Any) -> list[nn.Parameter]:
    """The trainable parameters of the first operation that combines any with the inputs.

    Where the operation belongs to a layer, all of the layer's own parameters count (a bias that is added afterwards).

    Args:
        model: any module; nothing of it changes.
        x: inputs.

    Returns:
        Parameters in the model's order; none where the model uses none on its inputs.
    """
    owners = {
        id(p): module for module in model.modules() for p in module.parameters(recurse=False) if p.requires_grad
    }  # fmt: skip
    watch = _Watch(x, set(owners))
    with undisturbed(model), torch.no_grad(), watch:
        model(x)
    found = set(watch.found)
    for key in watch.found:
        if next(owners[key].children(), None) is None:
            found |= {id(p) for p in owners[key].parameters(recurse=False)}
    return [p for p in model.parameters() if p.requires_grad and id(p) in found]


class _Watch(TorchFunctionMode):
    """Follows what is computed from inputs and what from parameters, until the two meet."""

    def __init__(self, x: Any, parameters: set[int]) -> None:
        super().__init__()
        self.parameters, self.found = parameters, set[int]()
        self.given = {id(tensor) for tensor in _tensors(x)}
        self.made: dict[int, set[int]] = {}
        self.held: list[Tensor] = list(_tensors(x))  # so that no id is used twice

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if self.found:
            return output
        taken = list(_tensors([args, kwargs or {}]))
        used = {id(t) for t in taken if id(t) in self.parameters}.union(*(self.made.get(id(t), set()) for t in taken))
        given = any(id(t) in self.given for t in taken)
        if given and used:
            self.found = used
            return output
        for tensor in _tensors(output):
            self.held.append(tensor)
            if given:
                self.given.add(id(tensor))
            if used:
                self.made[id(tensor)] = used
        return output


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
