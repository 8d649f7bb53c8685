"""A uniform sample of fixed size from a stream of unknown length (Vitter's algorithm R, 1985)."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor


def sample_slots(
    count: int, seen: int, capacity: int, generator: torch.Generator | None = None
) -> Int[Tensor, " items"]:
    """Where each of ``count`` new items goes in a sample of ``capacity``, after ``seen`` others; -1 for nowhere.

    Item number k of the stream fills slot k - 1 while there is room, and then replaces a random one with probability
    capacity / k: every item is in the sample with the same probability. A slot may be named twice; the later item
    stays.

    Args:
        count: new items, in order.
        seen: items that came before.
        capacity: of the sample.
        generator: source of the draws, one for each item that comes when the sample is full; torch's global one by
            default.

    Returns:
        Slots, on the CPU.
    """
    room = min(max(capacity - seen, 0), count)
    late = count - room
    device = None if generator is None else generator.device
    drawn = torch.rand(late, generator=generator, dtype=torch.float64, device=device).cpu()
    places = (drawn * torch.arange(seen + room + 1, seen + count + 1)).long()
    return torch.cat([torch.arange(seen, seen + room), torch.where(places < capacity, places, -1)])
