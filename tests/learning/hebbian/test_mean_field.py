"""Plefka's expansion against exact fields, a numerical derivative, the theory and sampling."""

import pytest
import torch

from neurarium.data import diluted_patterns, noisy_examples
from neurarium.learning import HebbianMemory, plefka
from neurarium.learning.hebbian._mean_field import _response, mean_field
from neurarium.theory import replica_symmetric


def stored(neurons, patterns, order, contact="all", seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = diluted_patterns(patterns, neurons, generator=generator)
    return rows, HebbianMemory(neurons, order, contact=contact, dtype=torch.float64).store(rows)


@pytest.mark.parametrize("order", [2, 4, 6])
def test_field_of_a_certain_state_is_the_exact_one(order):
    _, memory = stored(12, 5, order, "distinct")
    coupling = memory.coupling()
    state = torch.randint(0, 2, (12,), generator=torch.Generator().manual_seed(1)).double() * 2 - 1
    field = mean_field(coupling.rows, state, order, coupling.distinct) * order / coupling.denominator
    torch.testing.assert_close(field, memory.field(state))


def test_field_is_the_average_over_independent_spins():
    # multilinear in the means for distinct indices: the average over all states of a factorised distribution
    _, memory = stored(8, 3, 4, "distinct")
    coupling = memory.coupling()
    means = torch.linspace(-0.8, 0.9, 8, dtype=torch.float64)
    states = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 8)
    weight = ((1 + states * means) / 2).prod(1)
    field = mean_field(coupling.rows, means, 4, True) * 4 / coupling.denominator
    torch.testing.assert_close(field, weight @ memory.field(states))


def test_plain_powers_average_a_gaussian_overlap():
    _, memory = stored(60, 4, 4)
    coupling = memory.coupling()
    generator = torch.Generator().manual_seed(2)
    means = torch.rand(60, generator=generator, dtype=torch.float64) * 2 - 1
    states = torch.where(torch.rand(40_000, 60, generator=generator) < (1 + means) / 2, 1.0, -1.0).double()
    field = mean_field(coupling.rows, means, 4, False) * 4 / coupling.denominator
    sampled = memory.field(states).mean(0)
    assert float((field - sampled).norm() / sampled.norm()) < 0.05


def test_response_is_the_fields_derivative():
    _, memory = stored(300, 6, 4, "distinct")
    rows = memory.coupling().rows
    means = torch.rand(300, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 2 - 1
    exact = torch.autograd.functional.jacobian(lambda m: mean_field(rows, m, 4, True), means)
    near = _response(rows, means, 4, True)
    assert float((exact - near).norm() / exact.norm()) < 0.25


def test_second_order_is_nearer_to_theory_than_naive_mean_field():
    load, heat, neurons = 0.05, 0.5, 1000
    rows, memory = stored(neurons, int(load * neurons), 2)
    theory = float(replica_symmetric(2, load, heat).m)
    naive, second = (
        sum(float(plefka(memory, row, heat, order, steps=300) @ row.double()) for row in rows[:10]) / 10 / neurons
        for order in (1, 2)
    )
    assert naive > second > theory - 0.005
    assert abs(second - theory) < 0.6 * abs(naive - theory)


def test_dense_memory_from_examples_agrees_with_sampling():
    generator = torch.Generator().manual_seed(4)
    patterns = diluted_patterns(100, 100, generator=generator)
    examples = noisy_examples(patterns, 0.6, 20, generator)
    labels = torch.arange(100).unsqueeze(1).expand(100, 20)
    memory = HebbianMemory(100, 4, quality=0.6).learn(examples, labels)
    means = plefka(memory, patterns[0], 0.3)
    sampled = memory.relax(patterns[:1].expand(400, -1), 0.3, 30, generator).mean(0)
    assert abs(float((means - sampled) @ patterns[0] / 100)) < 0.02


def test_same_answer_twice_and_bad_input():
    rows, memory = stored(20, 2, 4)
    assert torch.equal(plefka(memory, rows[0], 0.5), plefka(memory, rows[0], 0.5))
    for arguments, message in (
        ((rows[0], 0.0), "temperature must be positive"),
        ((rows[0], 0.5, 3), "order must be 1 or 2"),
        ((rows[0, :7], 0.5), "must have shape"),
    ):
        with pytest.raises(ValueError, match=message):
            plefka(memory, *arguments)
    with pytest.raises(ValueError, match="damping"):
        plefka(memory, rows[0], 0.5, damping=1.0)
