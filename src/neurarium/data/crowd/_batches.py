"""Batches of examples together with what their annotators said, from a table of any length."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from neurarium.data.graphs._structures import CrowdLabels


class CrowdBatches:
    """Batches ``(x, (rows, annotators, labels))``: the labels of a batch's examples, one entry per label.

    Nothing of the size of items times annotators is made: labels lie sorted by item, and a batch takes its own.

    Args:
        x: inputs, in the order of the crowd's items.
        crowd: their labels.
        batch_size: examples per batch; those without a label are passed over.
        shuffle: draw a new order for each pass.
        seed: of the order.

    Raises:
        ValueError: inputs that are not one per item, or a batch size below 1.
    """

    def __init__(self, x: Tensor, crowd: CrowdLabels, batch_size: int, *, shuffle: bool = False, seed: int = 0) -> None:
        if len(x) != len(crowd.item_names):
            raise ValueError(f"x must have one row per item, {len(crowd.item_names)}, not {len(x)}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        order = crowd.items.argsort(stable=True)
        self.x, self.batch_size, self.shuffle = x, batch_size, shuffle
        self.annotators, self.labels = (part[order].to(x.device) for part in (crowd.workers, crowd.labels))
        self.counts = crowd.items.bincount(minlength=len(x))
        self.starts = self.counts.cumsum(0) - self.counts
        self.labelled = self.counts.nonzero().flatten()
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return -(-len(self.labelled) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor, Tensor]]]:
        items = self.labelled
        if self.shuffle:
            items = items[torch.randperm(len(items), generator=self.generator)]
        for chosen in items.split(self.batch_size):
            counts = self.counts[chosen]
            rows = torch.arange(len(chosen)).repeat_interleave(counts)
            within = torch.arange(len(rows)) - (counts.cumsum(0) - counts)[rows]
            entries = (self.starts[chosen][rows] + within).to(self.x.device)
            given = (rows.to(self.x.device), self.annotators[entries], self.labels[entries])
            yield self.x[chosen.to(self.x.device)], given
