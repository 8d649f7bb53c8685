"""Where the blocks of a network begin, for rules that give every block a loss of its own.

`blocks.cut_at` cuts at a module's output. A local loss wants what the *next* block gets, which is the same tensor in a
`Sequential` but comes after the nonlinearity where that is a function in ``forward``. So the cut is made at the input
of the next block, and whatever happens there (the local loss, its backward pass) is done before that block runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from neurarium.learning.cutting._blocks import Blocks, find_blocks
from neurarium.training import graph_operations

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm)
_LINEAR_ENDS = (nn.Linear, *_CONVOLUTIONS, *_BATCH_NORMS, nn.LayerNorm, nn.RMSNorm)
_INPUT_SIZES = ("in_features", "in_channels", "num_features", "num_channels", "embed_dim", "input_size")


@dataclass(frozen=True)
class Entry:
    """The begin of a block: what enters ``module`` is the activation of the block before it.

    Args:
        name: qualified name of the module.
        module: the block's first module.
        features: size of what enters along its feature (or channel) dimension.
        channels_first: the features are dimension 1, positions behind; else they are the last dimension.
    """

    name: str
    module: nn.Module
    features: int
    channels_first: bool


def find_entries(model: nn.Module, blocks: Blocks = None) -> list[Entry]:
    """Where the second block and all later ones begin, in the order of definition.

    A block found by itself ends after a nonlinearity: a linear or convolutional layer in a `Sequential` is joined with
    the normalisation behind it. A readout at the end is the last block.

    Args:
        model: the network.
        blocks: see `find_blocks`.

    Raises:
        ValueError: no block was found, or the size of what enters one cannot be told.
    """
    modules = dict(model.named_modules())
    found: list[Entry] = []
    for name, end in find_blocks(model, blocks):
        parent = modules[name.rpartition(".")[0]] if name else None
        if blocks is None and isinstance(parent, nn.Sequential) and isinstance(end, _LINEAR_ENDS):
            continue
        following = _after(model, name)
        if following and following not in [entry.name for entry in found]:
            found.append(Entry(following, modules[following], *_input(following, modules[following])))
    return found


def is_readout(model: nn.Module, entry: Entry) -> bool:
    """Whether one linear layer is all that comes from ``entry`` on."""
    leaves = [(name, module) for name, module in model.named_modules() if module._parameters]
    names = [name for name, _ in leaves]
    inside = [i for i, name in enumerate(names) if name == entry.name or name.startswith(entry.name + ".")]
    return inside == [len(leaves) - 1] and isinstance(leaves[-1][1], nn.Linear)


def output_features(model: nn.Module) -> tuple[int, bool]:
    """Size of the last layer's output, and whether it is dimension 1 of a map.

    Raises:
        ValueError: the last module with parameters does not say how many outputs it has.
    """
    last = [module for module in model.modules() if module._parameters][-1]
    for attribute in ("out_features", "out_channels", *_INPUT_SIZES):
        if isinstance(size := getattr(last, attribute, None), int):
            return size, isinstance(last, (*_CONVOLUTIONS, *_BATCH_NORMS))
    if isinstance(last, (nn.LayerNorm, nn.RMSNorm)):
        return last.normalized_shape[-1], False
    raise ValueError(f"cannot tell the number of outputs of {type(last).__name__}: it has no out_features")


Visit = Callable[[int, Tensor], Tensor]
"""``visit(i, activation) -> what the next block is given``."""


@contextmanager
def visiting(entries: Sequence[Entry], visit: Visit) -> Iterator[None]:
    """Within the context, ``visit(i, x)`` is called with what enters ``entries[i]``; its result goes in instead."""

    def hook(i: int) -> Callable[[nn.Module, Any], Any]:
        def enter(module: nn.Module, arguments: Any) -> Any:
            if not arguments or not isinstance(arguments[0], Tensor):
                raise TypeError(f"{entries[i].name!r} must be given one tensor to be the begin of a block")
            return (visit(i, arguments[0]), *arguments[1:])

        return enter

    handles = [entry.module.register_forward_pre_hook(hook(i)) for i, entry in enumerate(entries)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class BypassCheck:
    """At a rule's first batch: no operation may belong to the graphs of two blocks."""

    def __init__(self) -> None:
        self.seen: set[Any] | None = set()

    def check(self, loss: Tensor, entry: Entry | None) -> None:
        """Look at a block's graph before its backward pass frees it.

        Args:
            loss: the block's loss.
            entry: where the block begins, for the message.

        Raises:
            ValueError: the graph goes on below the block.
        """
        if self.seen is None:
            return
        mine = graph_operations(loss)
        if mine & self.seen:
            self.seen = set()
            raise ValueError(
                f"the cut at {entry.name if entry else ''!r} is bypassed: a tensor from before it is used after it; "
                "name blocks that contain the skip connection with blocks=[...]"
            )
        self.seen |= mine

    def done(self) -> None:
        """The first batch has passed."""
        self.seen = None


def vector(a: Tensor, channels_first: bool, side: int, per_token: bool = False) -> Tensor:
    """One vector per example: [batch, features], or [batch, tokens, features] where ``per_token``.

    Maps [batch, channels, ...] are averaged to ``side`` positions along each dimension and flattened; tokens
    [batch, ..., features] are averaged.
    """
    if channels_first and a.dim() > 2:
        pool: Any = {3: F.adaptive_avg_pool1d, 4: F.adaptive_avg_pool2d, 5: F.adaptive_avg_pool3d}[a.dim()]
        return pool(a, side).flatten(1)
    if a.dim() > 2 and not per_token:
        return a.flatten(1, -2).mean(1)
    return a


def positions(entry_module: nn.Module, side: int) -> int:
    """How many positions `vector` leaves of a map."""
    first = next(module for module in entry_module.modules() if module._parameters)
    dims = {"1d": 1, "2d": 2, "3d": 3}.get(type(first).__name__[-2:], 2)
    return int(math.pow(side, dims))


def _after(model: nn.Module, name: str) -> str:
    """The next sibling with parameters, else the next module with parameters of its own; empty for none."""
    parent, _, child = name.rpartition(".")
    siblings = list(model.get_submodule(parent).named_children()) if name else []
    start = [key for key, _ in siblings].index(child) + 1 if name else 0
    for key, sibling in siblings[start:]:
        if any(True for _ in sibling.parameters()):
            return f"{parent}.{key}" if parent else key
    names = list(dict(model.named_modules()))
    last = max(i for i, other in enumerate(names) if other == name or other.startswith(name + ".") or not name)
    return next((other for other in names[last + 1 :] if model.get_submodule(other)._parameters), "")


def _input(name: str, module: nn.Module) -> tuple[int, bool]:
    """Size of what enters a block, read from its first layer, and whether channels come first."""
    for layer in module.modules():
        if isinstance(layer, (nn.LayerNorm, nn.RMSNorm)):
            return layer.normalized_shape[-1], False
        for attribute in _INPUT_SIZES:
            if isinstance(size := getattr(layer, attribute, None), int):
                return size, isinstance(layer, (*_CONVOLUTIONS, *_BATCH_NORMS))
    raise ValueError(
        f"cannot tell how many features enter {name!r}: its first layer has no in_features; name other blocks"
    )
