"""The test of a power law on degrees that follow one, on degrees that do not, and on its own distribution."""

import numpy as np
import pytest
import torch

from neurarium.probes import power_law_test
from neurarium.probes.weights._topology import power_law


def heavy(units, exponent, tail, seed):
    u = np.random.default_rng(seed).random(units)
    return torch.from_numpy(np.floor((tail - 0.5) * (1 - u) ** (1 / (1 - exponent)) + 0.5)).long()


def test_a_power_law_is_found_plausible_and_uniform_degrees_are_not():
    degrees = heavy(600, 2.5, 5, seed=1)
    found = power_law_test(degrees, samples=40)
    assert found.plausible
    assert found.exponent == pytest.approx(2.5, abs=0.3)
    assert (found.exponent, found.tail, found.distance) == power_law(degrees.numpy())
    uniform = torch.from_numpy(np.random.default_rng(0).integers(20, 30, 600))
    assert not power_law_test(uniform, samples=40).plausible


def test_p_values_of_true_power_laws_are_spread_over_the_unit_interval():
    values = [power_law_test(heavy(100, 2.2, 3, seed), samples=20, seed=seed).p_value for seed in range(30)]
    assert 0.3 < np.mean(values) < 0.7
    assert min(values) < 0.25
    assert max(values) > 0.75


def test_units_without_connections_do_not_count_and_one_degree_is_refused():
    degrees = heavy(200, 2.5, 4, seed=2)
    with_zeros = torch.cat([degrees, torch.zeros(50, dtype=torch.long)])
    assert power_law_test(with_zeros, samples=20) == power_law_test(degrees, samples=20)
    with pytest.raises(ValueError, match="two different"):
        power_law_test(torch.full((10,), 3))
