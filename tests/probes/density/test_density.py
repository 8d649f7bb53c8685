"""Windows against SciPy and by hand; modes and discriminators whose answer is known."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from scipy.stats import gaussian_kde
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from neurarium.probes import discriminator_report, mode_coverage, parzen_log_likelihood
from neurarium.theory import GaussianDiscriminator


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_windows_are_a_mixture_of_normal_laws():
    samples, x = (torch.randn(n, 2, dtype=torch.float64, generator=seeded(n)) for n in (40, 9))
    windows = Independent(Normal(samples, 0.5), 1)
    mixture = MixtureSameFamily(Categorical(torch.ones(40).double()), windows)
    torch.testing.assert_close(parzen_log_likelihood(samples, x, 0.5).each, mixture.log_prob(x))
    kernel = gaussian_kde(samples[:, 0].numpy(), bw_method=0.3)
    width = float(kernel.covariance[0, 0]) ** 0.5
    found = parzen_log_likelihood(samples[:, :1], x[:, :1], width)
    np.testing.assert_allclose(found.each.numpy(), kernel.logpdf(x[:, 0].numpy()), rtol=1e-8)


def test_one_sample_is_one_normal_law():
    y, x = torch.zeros(1, 5).double(), torch.full((1, 5), 2.0).double()
    expected = -2.5 * math.log(2 * math.pi * 0.09) - 20 / (2 * 0.09)
    assert parzen_log_likelihood(y, x, 0.3).mean == pytest.approx(expected)


def test_the_bandwidth_is_chosen_on_validation_examples():
    draws = [torch.randn(n, 1, generator=seeded(n)) for n in (400, 200, 300)]
    found = parzen_log_likelihood(draws[0], draws[1], validation=draws[2])
    assert 0.1 < found.bandwidth < 0.8
    assert found.mean == pytest.approx(-0.5 * math.log(2 * math.pi * math.e), abs=0.15)
    assert max(found.validation) == found.validation[found.candidates.index(found.bandwidth)]
    assert "nats" in found.summary()
    found.plot(plt.figure().gca())
    with pytest.raises(ValueError, match="validation"):
        parzen_log_likelihood(draws[0], draws[1])
    with pytest.raises(ValueError, match="cannot stand"):
        parzen_log_likelihood(draws[0], torch.zeros(3, 2), 0.1)


def test_a_dropped_mode_is_missed():
    centres = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    x, y = centres.repeat(10, 1), torch.tensor([7, 3, 9]).repeat(10)
    whole = mode_coverage(x + 0.1, x, y)
    assert whole.covered == 3
    assert whole.divergence == pytest.approx(0, abs=1e-6)
    missing = mode_coverage(centres[[0, 0, 1, 1]] + 0.1, x, y)
    assert missing.covered == 2
    assert missing.divergence == pytest.approx(math.log(1.5), abs=1e-6)
    assert missing.shares[0] == pytest.approx(0.5)  # of the mode 3: classes are in order
    assert "2 of 3" in missing.summary()
    missing.plot(plt.figure().gca())


def test_the_best_discriminators_report_is_the_divergence():
    one = torch.ones(1, 1)

    class Best(nn.Module):
        def forward(self, x):
            return GaussianDiscriminator(torch.zeros(1), one, 2 * torch.ones(1), one)(x)

    real, fake = torch.randn(20_000, 1, generator=seeded()), 2 + torch.randn(20_000, 1, generator=seeded(1))
    found = discriminator_report(Best(), real, fake)
    assert found.divergence == pytest.approx(0.33683, abs=0.01)
    assert found.accuracy == pytest.approx(0.8413, abs=0.01)  # Phi(1)
    blind = discriminator_report(nn.Linear(1, 1).requires_grad_(False), real, real)
    assert blind.divergence < 1e-3
    assert "accuracy" in found.summary()
    found.plot(plt.figure().gca())
