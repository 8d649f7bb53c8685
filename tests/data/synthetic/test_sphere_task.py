"""Inputs are uniform on their part of the sphere, labels are wrong as often as said."""

import pytest
import torch

from neurarium.data import SphereTask


def test_heights_on_a_sphere_in_space_are_uniform():
    x = SphereTask(2).inputs(20_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(x.norm(dim=1), torch.ones(20_000, dtype=torch.float64))
    assert bool((x >= 0).all())
    for axis in range(3):  # Archimedes: each coordinate is uniform from 0 to 1
        heights = x[:, axis].sort().values
        assert float((heights - torch.linspace(0, 1, 20_000, dtype=torch.float64)).abs().max()) < 0.02


def test_labels_are_turned_round_as_often_as_the_noise_says():
    task = SphereTask(2, noise=0.1)
    found = task.draw(20_000, torch.Generator().manual_seed(1))
    assert float((found.y != task.rule(found.x)).double().mean()) == pytest.approx(0.1, abs=0.01)
    assert task.error(found.x, task.rule(found.x)) == pytest.approx(0.1)
    assert task.error(found.x, 1 - task.rule(found.x)) == pytest.approx(0.9)
