"""Memory of a training step, counted in bytes of tensors: exact, and the same on every machine."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_bytes(step: Callable[[], Any]) -> int:
    """Largest number of bytes alive at one moment in tensors that ``step()`` makes.

    Counts activations, saved tensors, gradients and temporaries that appear as tensors; not what was there before
    (parameters, data), and not the insides of one kernel. For a step in steady state call ``step`` once before, so
    that gradient and optimizer buffers exist already.
    """
    return max(live_bytes(step), default=0)


def live_bytes(step: Callable[[], Any]) -> list[int]:
    """What `peak_bytes` is the largest of: the bytes alive after every operation of ``step()``, in their order."""
    with _LiveBytes() as counter:
        step()
    return counter.history


def saved_bytes(forward: Callable[[], Tensor]) -> int:
    """Bytes that a forward pass keeps for its backward pass: each storage once, parameters left out."""
    kept: dict[int, int] = {}
    held: list[Tensor] = []  # so that no storage is freed, and its address used again, while we count

    def pack(tensor: Tensor) -> Tensor:
        origin = tensor if tensor._base is None else tensor._base
        if not isinstance(origin, nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(kept.values())


class _LiveBytes(TorchDispatchMode):
    """Follows every storage that an operation makes until it is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, int] = {}
        self.now = 0
        self.history: list[int] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in given and key not in self.live:
                    self.live[key] = storage.nbytes()
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._freed, key)
        self.history.append(self.now)
        return output

    def _freed(self, key: int) -> None:
        self.now -= self.live.pop(key, 0)
