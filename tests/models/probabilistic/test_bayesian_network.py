"""Bayesian networks: the divergence and the draws in closed form, shared weights, and a linear model's posterior."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import mse_loss

from neurarium.models import BayesianNetwork, bayesianize


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3))


def test_the_divergence_is_torchs():
    model = bayesianize(mlp(), prior=0.7)
    with torch.no_grad():
        model.log_scale.normal_(-1, 0.3)
    wanted = kl_divergence(Normal(model.mean, model.log_scale.exp()), Normal(0.0, 0.7)).sum()
    torch.testing.assert_close(model.kl(), wanted)


def test_it_begins_at_the_trained_network_and_varies_around_it():
    plain = mlp()
    model = bayesianize(plain, log_scale=-2.0)
    x = torch.randn(5, 4)
    torch.testing.assert_close(torch.func.functional_call(model.network, model.means(), (x,)), plain(x))
    torch.manual_seed(1)
    draws = torch.stack([model.draw()["0.weight"] for _ in range(1500)])
    torch.testing.assert_close(draws.mean(0), plain[0].weight, atol=0.02, rtol=0)
    torch.testing.assert_close(draws.std(0), torch.full((8, 4), math.exp(-2.0)), atol=0.016, rtol=0)
    assert not torch.equal(model(x), model(x))
    trained = dict(model.named_parameters())
    assert set(trained) == {"mean", "log_scale", "network.1.weight", "network.1.bias"}  # the norm is left as it is
    kaiming = model.prior_scale[: 8 * 4]
    torch.testing.assert_close(kaiming, torch.full((32,), 0.5))


def test_shared_weights_stay_shared():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.a(x) - self.b(x)

    model = bayesianize(Tied())
    assert model.mean.numel() == 9
    torch.testing.assert_close(model(torch.eye(3)), torch.zeros(3, 3))


def test_linear_regression_has_its_known_posterior():
    """One input, no bias: the posterior of the weight is normal, and one deviation per weight is all it needs."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(40, 1, generator=draw)
    y = 1.5 * x + torch.randn(40, 1, generator=draw)
    torch.manual_seed(0)
    model = bayesianize(nn.Linear(1, 1, bias=False), prior=1.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)
    for _ in range(400):
        optimizer.zero_grad()
        (0.5 * mse_loss(model(x), y, reduction="sum") + model.kl()).backward()
        optimizer.step()
        schedule.step()
    precision = 1 + float((x * x).sum())
    assert float(model.mean.detach()) == pytest.approx(float((x * y).sum()) / precision, abs=0.02)
    assert float(model.log_scale.detach().exp()) == pytest.approx(precision**-0.5, rel=0.1)


def test_state_and_refusals():
    model = bayesianize(mlp())
    other = bayesianize(mlp())
    with torch.no_grad():
        model.mean.add_(1)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.mean, model.mean)
    assert isinstance(model, BayesianNetwork)
    with pytest.raises(ValueError, match="kaiming"):
        bayesianize(mlp(), prior="flat")
    with pytest.raises(ValueError, match="above 0"):
        bayesianize(mlp(), prior=0.0)
    with pytest.raises(ValueError, match="no parameter"):
        bayesianize(nn.ReLU())
