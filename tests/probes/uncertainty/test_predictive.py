"""Predictive uncertainty: coins that agree or not, by hand, and a Bayesian network far from its data."""

import math

import pytest
import torch
from torch import nn

from neurarium.models import bayesianize
from neurarium.probes import predictive


class Turns(nn.Module):
    """Says one thing and then the other, as sure as it is told to be."""

    def __init__(self, sure, steady=False):
        super().__init__()
        self.sure, self.steady, self.calls = sure, steady, 0

    def forward(self, x):
        self.calls += 1
        side = 1 if self.steady or self.calls % 2 else -1
        return torch.tensor([[side * self.sure, 0.0]]).expand(len(x), 2)


def test_draws_that_disagree_are_epistemic_and_coins_aleatoric():
    x = torch.zeros(3, 1)
    disagree = predictive(Turns(60.0), x, 10)
    torch.testing.assert_close(disagree.probabilities, torch.full((3, 2), 0.5))
    torch.testing.assert_close(disagree.epistemic, torch.full((3,), math.log(2)))
    torch.testing.assert_close(disagree.aleatoric, torch.zeros(3))
    coins = predictive(Turns(0.0), x, 10)
    torch.testing.assert_close(coins.aleatoric, torch.full((3,), math.log(2)))
    assert float(coins.epistemic.max()) < 1e-6
    sure = predictive(Turns(60.0, steady=True), x, 4)
    assert float(sure.total.max()) < 1e-6


def test_a_bayesian_network_is_less_sure_with_wider_weights():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))
    x = torch.randn(20, 4)
    narrow, wide = (predictive(bayesianize(plain, log_scale=s), x, 40) for s in (-6.0, -0.5))
    assert float(narrow.epistemic.mean()) < 0.01 < float(wide.epistemic.mean())
    torch.testing.assert_close(narrow.probabilities, plain(x).softmax(1).detach(), atol=0.01, rtol=0)
    assert "in the model" in wide.summary()


def test_refusals():
    with pytest.raises(ValueError, match="samples"):
        predictive(Turns(1.0), torch.zeros(1, 1), 0)
    with pytest.raises(ValueError, match="logits"):
        predictive(nn.Flatten(0), torch.zeros(2, 2), 2)
