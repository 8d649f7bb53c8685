"""Closed forms of the best discriminator against densities, known numbers and draws."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from neurarium.theory import GaussianDiscriminator, game_value, jensen_shannon, optimal_discriminator


def test_the_value_of_the_best_discriminator_is_the_divergence():
    p, q = torch.tensor([[0.5, 0.3, 0.2, 0.0], [0.1, 0.2, 0.0, 0.7]], dtype=torch.float64)
    best = optimal_discriminator(p, q)
    assert float(game_value(p, q, best)) == pytest.approx(-math.log(4) + 2 * float(jensen_shannon(p, q)), abs=1e-12)
    for shift in (-0.05, 0.05):
        assert game_value(p, q, (best + shift).clamp(0.01, 0.99)) < game_value(p, q, best)
    assert float(jensen_shannon(p, p)) == pytest.approx(0, abs=1e-12)
    assert float(game_value(p, p, optimal_discriminator(p, p))) == pytest.approx(-math.log(4))


def test_two_unit_normals_two_apart():
    one = torch.ones(1, 1, dtype=torch.float64)
    law = GaussianDiscriminator(torch.zeros(1).double(), one, 2 * torch.ones(1).double(), one)
    assert law.divergence() == pytest.approx(0.33683, abs=1e-5)
    assert -math.log(4) + 2 * law.divergence() == pytest.approx(-0.71263, abs=1e-5)
    torch.testing.assert_close(
        law(torch.tensor([[0.0], [1.0], [3.0]]).double()), torch.tensor([2.0, 0.0, -4.0]).double()
    )


def test_the_divergence_is_symmetric_wherever_the_laws_lie():
    means, variances = torch.tensor([[40.0], [0.0]]).double(), torch.tensor([[[4.0]], [[0.25]]]).double()
    forth = GaussianDiscriminator(means[0], variances[0], means[1], variances[1]).divergence()
    back = GaussianDiscriminator(means[1], variances[1], means[0], variances[0]).divergence()
    assert forth == pytest.approx(math.log(2), abs=1e-4)  # twenty deviations apart
    assert back == pytest.approx(forth, abs=1e-9)


def test_the_logit_is_the_difference_of_log_densities():
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(2, 3, dtype=torch.float64, generator=generator)
    roots = torch.randn(2, 3, 3, dtype=torch.float64, generator=generator)
    covariances = roots @ roots.mT + 0.3 * torch.eye(3).double()
    law = GaussianDiscriminator(means[0], covariances[0], means[1], covariances[1])
    x = torch.randn(50, 3, dtype=torch.float64, generator=generator)
    laws = [MultivariateNormal(m, c) for m, c in zip(means, covariances, strict=True)]
    torch.testing.assert_close(law(x), laws[0].log_prob(x) - laws[1].log_prob(x))
    best = optimal_discriminator(*[one.log_prob(x).exp() for one in laws])
    torch.testing.assert_close(law(x).sigmoid(), best)
    assert 0 < law.divergence(20_000, generator) < math.log(2)


def test_draws_and_quadrature_agree():
    wide = torch.eye(2).double()
    zero, two = torch.zeros(2).double(), torch.tensor([2.0, 0.0]).double()
    found = GaussianDiscriminator(zero, wide, two, wide).divergence(200_000, torch.Generator().manual_seed(0))
    assert found == pytest.approx(0.33683, abs=3e-3)


def test_refusals():
    with pytest.raises(ValueError, match="model_covariance"):
        GaussianDiscriminator(torch.zeros(1), torch.ones(1, 1), torch.zeros(1), -torch.ones(1, 1))
