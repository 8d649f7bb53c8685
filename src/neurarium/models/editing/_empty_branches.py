"""Residual branches that nothing is left of: without their layers a sum x + branch(x) must be x, not 2 x."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

SUMS = frozenset({"add", "add_", "__add__", "__radd__", "__iadd__", "sub", "sub_", "__sub__", "__isub__"})
SCALED = frozenset({"mul", "mul_", "__mul__", "__rmul__", "__imul__", "div", "__truediv__", "dropout", "clone"})


class Nothing(nn.Module):
    """What is left of a branch whose layers were all taken out: zeros in the shape of its input."""

    def forward(self, x: Tensor) -> Tensor:
        """[...] -> zeros [...]."""
        return torch.zeros_like(x)


def empty_branches(run: Callable[[], object], removed: Mapping[str, nn.Module]) -> set[str]:
    """Which removed layers were the last of a branch that has no layer any more.

    Args:
        run: runs the model that the layers were taken out of.
        removed: the identities that stand in their places, by name.

    Returns:
        Names of those that must give zeros, so that the sum at the end of the branch is what comes past it.
    """
    watch = _Sums()
    handles = [module.register_forward_hook(watch.passing(name)) for name, module in removed.items()]
    try:
        with watch:
            run()
    finally:
        for handle in handles:
            handle.remove()
    return watch.found


class _Sums(TorchFunctionMode):
    """Follows tensors through removed layers and constant factors: where each came from, and past which of them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.past: dict[int, tuple[Tensor, tuple[str, ...]]] = {}
        self.held: list[Tensor] = []  # so that no id is used twice

    def passing(self, name: str) -> Callable[..., Tensor]:
        """A hook that gives the output of a removed layer an object of its own."""

        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            root, names = self._origin(output)
            with torch._C.DisableTorchFunction():
                alias = output.view_as(output)
            return self._note(alias, root, (*names, name))

        return hook

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        given = [value for value in args if isinstance(value, Tensor)]
        before = [self._origin(value) for value in given]
        output = func(*args, **(kwargs or {}))
        if not isinstance(output, Tensor):
            return output
        if name in SUMS and len(given) == 2 and before[0][0] is before[1][0] and before[0][1] != before[1][1]:
            shorter, longer = sorted((names for _, names in before), key=len)
            self.found.add(longer[-1])
            self._note(output, before[0][0], shorter)
        elif name in SCALED:
            root, names = max(before, key=lambda origin: len(origin[1]))
            if names:
                self._note(output, root, names)
        return output

    def _origin(self, tensor: Tensor) -> tuple[Tensor, tuple[str, ...]]:
        return self.past.get(id(tensor), (tensor, ()))

    def _note(self, tensor: Tensor, root: Tensor, names: tuple[str, ...]) -> Tensor:
        self.held.append(tensor)
        self.past[id(tensor)] = root, names
        return tensor


def close_branches(model: nn.Module, run: Callable[[], object], names: Collection[str]) -> None:
    """Let the branches of a model give zeros in which nothing is left after layers were taken out, in place."""
    for name in empty_branches(run, {name: model.get_submodule(name) for name in names}):
        owner, _, key = name.rpartition(".")
        setattr(model.get_submodule(owner), key, Nothing())
