"""A uniform sample of fixed size from a stream."""

from __future__ import annotations

import torch
from torch import Tensor


def reservoir(kept: Tensor, late: Tensor, seen: int, generator: torch.Generator | None = None) -> Tensor:
    """``kept`` ``[capacity, ...]``, a uniform sample of ``seen`` items, after the items ``late`` ``[n, ...]`` came too.

    Vitter's algorithm R: item number k replaces a random kept one with probability capacity / k.

    Args:
        kept: the sample; not changed.
        late: new items, in order.
        seen: how many items ``kept`` was drawn from.
        generator: source of the draws; torch's global one by default.
    """
    place = generator.device if generator is not None else late.device
    ranks = torch.arange(seen + 1, seen + len(late) + 1, device=place)
    slots = (torch.rand(len(late), generator=generator, device=place, dtype=torch.float64) * ranks).long()
    kept = kept.clone()
    for item, slot in zip(late, slots.tolist(), strict=True):
        if slot < len(kept):
            kept[slot] = item
    return kept
