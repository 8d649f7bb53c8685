"""Rectified normal variables against known suprema, integrals and draws."""

import math

import pytest
import torch
from torch.nn.functional import leaky_relu, relu, softplus

from neurarium.layers import RectifiedGaussian

E = torch.linspace(-8, 8, 16_001, dtype=torch.float64)


def test_means_are_softplus_and_relu_within_the_known_bounds():
    apart = (RectifiedGaussian("softplus").mean(E) - softplus(E)).abs()
    assert float(apart.max()) == pytest.approx(0.01541, abs=1e-5)
    assert float(E[apart.argmax()]) == pytest.approx(0, abs=1e-9)
    assert float(apart.max()) == pytest.approx(1.7761 / math.sqrt(2 * math.pi) - math.log(2), abs=1e-9)
    rectified = (RectifiedGaussian("relu").mean(E) - relu(E)).abs()
    assert float(rectified.max()) == pytest.approx(0.03706, abs=1e-5)
    assert float(E[rectified.argmax()]) == pytest.approx(0.7475, abs=2e-3)
    half = torch.tensor([0.5], dtype=torch.float64)
    assert float(RectifiedGaussian(math.tanh(0.5)).mean(half)) == pytest.approx(0.53286, abs=1e-5)


@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize("extra", [None, 0.7])
def test_moments_are_those_of_draws(slope, extra):
    layer = RectifiedGaussian(0.8, slope)
    e = torch.tensor([-1.0, 0.0, 0.6, 2.0], dtype=torch.float64)
    spread = None if extra is None else torch.full_like(e, extra)
    many = None if spread is None else spread.expand(200_000, 4)
    draws = layer.draw(e.expand(200_000, 4), many, torch.Generator().manual_seed(0))
    torch.testing.assert_close(draws.mean(0), layer.mean(e, spread), atol=0.012, rtol=0)
    torch.testing.assert_close(draws.var(0), layer.variance(e, spread), atol=0.02, rtol=0.01)


@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_densities_and_masses_add_up_to_one(slope):
    layer, e = RectifiedGaussian(0.9, slope), torch.tensor(0.4, dtype=torch.float64)
    x = torch.linspace(-6, 9, 150_001, dtype=torch.float64)
    x = x[x.abs() > 1e-9]
    total = float(layer.log_prob(x, e.expand_as(x)).exp().sum() * 1e-4)
    if not slope:
        mass = float(layer.log_prob(torch.zeros(1).double(), e[None]).exp())
        assert mass == pytest.approx(float(torch.special.ndtr(-e / 0.9)))
        total += mass
    assert total == pytest.approx(1, abs=2e-4)


def test_without_deviation_it_is_the_rectifier():
    torch.testing.assert_close(RectifiedGaussian(0.0).mean(E), relu(E), atol=1e-6, rtol=0)
    torch.testing.assert_close(RectifiedGaussian(0.0, 0.1).mean(E), leaky_relu(E, 0.1), atol=1e-6, rtol=0)
    assert float(RectifiedGaussian(0.0).variance(E).max()) < 1e-9


def test_gradients_are_finite_where_the_deviation_vanishes():
    e = torch.tensor([-50.0, -1.0, 0.0, 1e-8, 3.0], requires_grad=True)
    layer = RectifiedGaussian()
    (layer.mean(e).sum() + layer.variance(e).sum() + layer.train()(e).sum()).backward()
    assert bool(e.grad.isfinite().all())


@pytest.mark.untyped
def test_refusals():
    with pytest.raises(ValueError, match="scale"):
        RectifiedGaussian("gelu")
    with pytest.raises(ValueError, match="negative_slope"):
        RectifiedGaussian(negative_slope=1.5)
