"""Explicit coupling tensors: the memory itself without noise, and how much noise each order stands."""

import itertools

import pytest
import torch

from neurarium.data import diluted_patterns
from neurarium.learning import HebbianMemory, NoisySynapses


@pytest.mark.parametrize("order", [2, 4])
def test_without_noise_it_is_the_memory(order):
    generator = torch.Generator().manual_seed(0)
    rows = diluted_patterns(3, 10, generator=generator)
    memory = HebbianMemory(10, order, contact="distinct", dtype=torch.float64).store(rows)
    states = torch.randint(0, 2, (5, 10), generator=generator).double() * 2 - 1
    torch.testing.assert_close(NoisySynapses(memory, 0.0).field(states), memory.field(states))


@pytest.mark.parametrize("order", [2, 4])
def test_without_noise_it_retrieves_as_the_memory_does(order):
    generator = torch.Generator().manual_seed(3)
    rows = diluted_patterns(4, 20, generator=generator)
    memory = HebbianMemory(20, order, contact="distinct", dtype=torch.float64).store(rows)
    states = torch.randint(0, 2, (50, 20), generator=generator).double() * 2 - 1
    draws = [torch.Generator().manual_seed(4) for _ in range(2)]
    found = NoisySynapses(memory, 0.0).relax(states, 2, draws[0])
    assert torch.equal(found, memory.relax(states, 0.0, 2, draws[1], block_size=1))
    assert not torch.equal(found, states)


def test_field_is_the_sum_over_different_neurons():
    generator = torch.Generator().manual_seed(1)
    memory = HebbianMemory(6, 4, contact="distinct", dtype=torch.float64).store(diluted_patterns(2, 6))
    noisy = NoisySynapses(memory, 0.7, generator)
    state = torch.randint(0, 2, (6,), generator=generator).double() * 2 - 1
    tensor = noisy.synapses.reshape(6, 6, 6, 6)
    by_hand = [
        sum(tensor[i, j, k, m] * state[j] * state[k] * state[m] for j, k, m in itertools.permutations(range(6), 3))
        for i in range(6)
    ]
    torch.testing.assert_close(noisy.field(state), torch.stack(by_hand) / 6**3)
    assert float(tensor[1, 1, 2, 3]) == 0


def test_more_bodies_stand_more_noise():
    generator = torch.Generator().manual_seed(2)
    rows = diluted_patterns(1, 30, generator=generator)
    overlap = {}
    for order, noise in ((2, 1.5), (2, 25.0), (4, 25.0)):
        noisy = NoisySynapses(HebbianMemory(30, order).store(rows), noise, generator)
        overlap[order, noise] = float(noisy.relax(rows, generator=generator) @ rows[0] / 30)
    assert overlap[2, 1.5] > 0.9
    assert overlap[4, 25.0] > 0.9
    assert overlap[2, 25.0] < 0.7


def test_bad_input():
    memory = HebbianMemory(60, 4).store(diluted_patterns(1, 60))
    with pytest.raises(ValueError, match="at most 47 neurons"):
        NoisySynapses(memory, 1.0)
    with pytest.raises(ValueError, match="noise must not be negative"):
        NoisySynapses(HebbianMemory(10).store(diluted_patterns(1, 10)), -1.0)
    with pytest.raises(ValueError, match="empty"):
        NoisySynapses(HebbianMemory(10), 1.0)
