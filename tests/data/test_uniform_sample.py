"""Reservoir sampling: every item is in the sample with the same probability, in whatever parts the stream comes."""

import pytest
import torch

from neurarium.data._uniform_sample import sample_slots


@pytest.mark.parametrize("part", [1, 3, 7, 40])
def test_every_item_is_as_likely(part):
    times = torch.zeros(40)
    for seed in range(400):
        generator, kept, seen = torch.Generator().manual_seed(seed), [-1] * 10, 0
        for items in torch.arange(40).split(part):
            for item, slot in zip(items, sample_slots(len(items), seen, 10, generator).tolist(), strict=True):
                if slot >= 0:
                    kept[slot] = int(item)
            seen += len(items)
        times[kept] += 1
    assert float((times - 100).abs().max()) < 4 * (400 * 0.25 * 0.75) ** 0.5


def test_while_there_is_room_nothing_is_drawn():
    state = torch.get_rng_state()
    assert sample_slots(4, 3, 10).tolist() == [3, 4, 5, 6]
    assert sample_slots(0, 30, 10).tolist() == []
    assert torch.equal(torch.get_rng_state(), state)
