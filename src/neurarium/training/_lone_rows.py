"""Batches that batch normalisation can learn from: none of a single row, where there are others to join it to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


class JoinedBatches:
    """A loader whose last batch, where it has one row, is joined to the batch before.

    65 examples in batches of 32 leave one over, whose variance is undefined: batch normalisation refuses it.

    Args:
        loader: batches of tensors, pairs of them or dictionaries, as `unpack` takes them; iterated anew each time.
    """

    def __init__(self, loader: Iterable[Any]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Any]:
        held: Any = None
        for batch in self.loader:
            if held is not None and _rows(batch) == 1:
                held = _joined(held, batch)
                continue
            if held is not None:
                yield held
            held = batch
        if held is not None:
            yield held


def shuffled_rows(count: int, batch_size: int, device: torch.device | str | None = None) -> list[Tensor]:
    """Indices of ``count`` examples in a random order, in batches; a last one that is alone joins the batch before.

    Args:
        count: examples.
        batch_size: indices per batch.
        device: where the indices are wanted; they are drawn from the CPU's generator, so that devices agree.
    """
    parts = list(torch.randperm(count).to(device).split(batch_size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def _rows(batch: Any) -> int:
    if isinstance(batch, Mapping):
        batch = next(iter(batch.values()))
    elif isinstance(batch, (tuple, list)):
        batch = batch[1] if len(batch) > 1 else batch[0]
    return len(batch) if isinstance(batch, Tensor) and batch.dim() else 0


def _joined(first: Any, last: Any) -> Any:
    if isinstance(first, Mapping):
        return {name: _joined(first[name], last[name]) for name in first}
    if isinstance(first, (tuple, list)):
        return tuple(_joined(a, b) for a, b in zip(first, last, strict=True))
    return torch.cat([first, last])
