"""Phantoms: areas and brightness of the ellipses."""

import math

import pytest
import torch

from neurarium.data import random_phantoms, shepp_logan


def test_its_mean_is_that_of_the_ellipses_areas() -> None:
    image = shepp_logan(128)
    # a b pi / 4 of the square for each ellipse, all of which lie inside the head
    table = [
        (1, 0.69, 0.92), (-0.8, 0.6624, 0.874), (-0.2, 0.11, 0.31), (-0.2, 0.16, 0.41), (0.1, 0.21, 0.25),
        (0.1, 0.046, 0.046), (0.1, 0.046, 0.046), (0.1, 0.046, 0.023), (0.1, 0.023, 0.023), (0.1, 0.023, 0.046),
    ]  # fmt: skip
    expected = sum(brightness * a * b * math.pi / 4 for brightness, a, b in table)
    assert float(image.mean()) == pytest.approx(expected, abs=1e-3)
    assert float(image[64, 64]) == pytest.approx(0.2, abs=1e-6)  # between the two dark ellipses
    assert float(image[64, 64 + 14]) == pytest.approx(0.0, abs=1e-6)  # in the right one
    assert float(image[0].max()) == 0
    assert float(image.max()) == 1


def test_without_spread_they_are_the_phantom_and_with_it_they_differ() -> None:
    plain = random_phantoms(2, 32, spread=0, oversampling=4)
    torch.testing.assert_close(plain, shepp_logan(32).expand(2, -1, -1), atol=1e-5, rtol=0)
    some = random_phantoms(20, 32, generator=torch.Generator().manual_seed(0))
    again = random_phantoms(20, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(some, again)
    assert float(some.std(0).mean()) > 0.04
    assert float(some[:, :, 0].max()) == 0
    assert float(some.max()) <= 1
