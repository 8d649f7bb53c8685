"""Finding a network's last average and the linear layer behind it, by watching one forward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

# Operations that hand on the same numbers in another shape.
_NAMES = """
view _unsafe_view reshape _reshape_alias squeeze unsqueeze alias clone detach _to_copy contiguous permute transpose
flatten
"""
_SAME = frozenset(_NAMES.split())


@dataclass(frozen=True)
class Pooled:
    """An average (or sum) over positions: ``pooled[b, k] = factor[b] Σ_p maps[b, k, p]``."""

    maps: Tensor
    factor: Tensor

    def scaled(self, by: Tensor | float) -> Pooled:
        """The same, times a number for each example."""
        factor = by.reshape(-1) if isinstance(by, Tensor) else by
        return Pooled(self.maps, self.factor * factor)


@dataclass(frozen=True)
class AverageHead:
    """``output = pooled weight' + bias`` with pooled an average over positions."""

    pooled: Pooled
    weight: Tensor
    bias: Tensor | None


@torch.no_grad()
def find_average_head(compute: Callable[[], Tensor]) -> AverageHead:
    """The average and the linear layer by which a computation ends.

    Args:
        compute: one forward pass; returns its output [batch, classes].

    Raises:
        ValueError: it ends in another way; the message says in which.
    """
    watch = _Watch()
    with watch:
        output = compute()
    head = watch.heads.get(output)
    if head is None:
        if output in watch.linear:
            raise ValueError(
                "class activation needs an average over positions straight before the last linear layer; "
                f"here that layer reads the output of {watch.linear[output]}"
            )
        raise ValueError(
            "class activation needs a network that ends with a linear layer; "
            f"this one ends with {watch.made_by.get(output, 'no operation at all')}"
        )
    return head


class _Watch(TorchDispatchMode):
    """Follows averages through a forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.pools: Any = WeakTensorKeyDictionary()
        self.heads: Any = WeakTensorKeyDictionary()
        self.linear: Any = WeakTensorKeyDictionary()
        self.made_by: Any = WeakTensorKeyDictionary()
        self.transposed: Any = WeakTensorKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__.removesuffix("_")
        for made in leaves(result):
            self.made_by[made] = name
        if not isinstance(result, Tensor):
            return result
        source = args[0] if args and isinstance(args[0], Tensor) else None
        if name in ("mean", "sum") and source is not None and len(args) > 1:
            pooled = _over_positions(source, args[1], name == "mean")
            if pooled:
                self.pools[result] = pooled
        elif name in ("avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"):
            if source is not None and result.shape[2:].numel() == 1:
                self.pools[result] = _over_positions(source, list(range(2, source.dim())), True)
        elif name in ("mul", "div") and source is not None and source in self.pools:
            other = args[1]
            if not isinstance(other, Tensor) or other.numel() in (1, other.shape[0] if other.dim() else 1):
                self.pools[result] = self.pools[source].scaled(1 / other if name == "div" else other)
        elif name in ("addmm", "mm", "linear"):
            self._linear(name, args, result)
        elif name in ("t", "transpose", "permute") and source is not None and source.dim() == 2:
            self.transposed[result] = source
        elif name in _SAME and source is not None:
            for kept in (self.pools, self.heads, self.linear, self.made_by):
                if source in kept and (kept is not self.pools or _flat(result, source)):
                    kept[result] = kept[source]
        return result

    def _linear(self, name: str, args: Any, result: Tensor) -> None:
        bias, entered, matrix = args if name == "addmm" else (None, *args[:2])
        if name == "linear":
            bias, weight = (args[2] if len(args) > 2 else None), matrix
        else:
            weight = self.transposed.get(matrix, None)
            weight = matrix.t() if weight is None else weight
        self.linear[result] = self.made_by.get(entered, "nothing")
        if entered in self.pools:
            self.heads[result] = AverageHead(self.pools[entered], weight, bias)


def _over_positions(maps: Tensor, dims: Any, mean: bool) -> Pooled | None:
    """What is averaged, as [batch, channels, *positions]; None where a channel or the batch is averaged over."""
    chosen = {d % maps.dim() for d in (dims if isinstance(dims, (list, tuple)) else [dims])}
    rest = [d for d in range(1, maps.dim()) if d not in chosen]
    if 0 in chosen or not chosen or len(rest) != 1:
        return None
    ordered = maps.movedim(rest[0], 1)
    count = ordered.shape[2:].numel()
    return Pooled(ordered, maps.new_full((len(maps),), 1 / count if mean else 1.0))


def _flat(result: Tensor, source: Tensor) -> bool:
    """Whether examples stay examples: only dimensions of one are added or left out."""
    return [n for n in result.shape if n != 1] == [n for n in source.shape if n != 1]


def leaves(x: Any) -> list[Tensor]:
    """Tensors in an input."""
    return [t for t in tree_leaves(x) if isinstance(t, Tensor)]
