"""The losses of the game against their values and slopes by hand."""

import math

import pytest
import torch
from torch import nn

from neurarium.objectives import AdversarialLoss, gradient_penalty

KINDS = ("minimax", "non_saturating", "least_squares", "wasserstein")


def test_values_where_the_discriminator_cannot_tell():
    zero, found = torch.zeros(4), {}
    for kind in KINDS:
        loss = AdversarialLoss(kind)
        found[kind] = (float(loss.discriminator(zero, zero)), float(loss.generator(zero)))
    log2 = math.log(2)
    expected = {"minimax": (2 * log2, -log2), "non_saturating": (2 * log2, log2), "least_squares": (0.5, 0.5)}
    for kind, pair in expected.items():
        assert found[kind] == pytest.approx(pair, abs=1e-6)
    assert found["wasserstein"] == (0, 0)


@pytest.mark.parametrize("kind", ["minimax", "non_saturating"])
def test_slopes_of_the_generators_losses(kind):
    logit = torch.tensor([-30.0, -2.0, 0.5, 40.0], requires_grad=True)
    (4 * AdversarialLoss(kind).generator(logit)).backward()
    d = logit.detach().sigmoid()
    torch.testing.assert_close(logit.grad, -d if kind == "minimax" else -(1 - d))


def test_minimax_is_the_logarithm_of_the_game():
    real, fake = torch.randn(2, 7, dtype=torch.float64)
    value = real.sigmoid().log().mean() + (1 - fake.sigmoid()).log().mean()
    loss = AdversarialLoss("minimax")
    torch.testing.assert_close(loss.discriminator(real, fake), -value)
    torch.testing.assert_close(loss.generator(fake), (1 - fake.sigmoid()).log().mean())


def test_least_squares_and_wasserstein():
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 2.0])
    assert float(AdversarialLoss("least_squares").discriminator(real, fake)) == 2.0
    assert float(AdversarialLoss("least_squares").generator(fake)) == 0.5
    assert float(AdversarialLoss("wasserstein").discriminator(real, fake)) == -1.0
    assert float(AdversarialLoss("wasserstein").generator(fake)) == -1.0


def test_the_penalty_of_a_plane_is_that_of_its_slope():
    critic = nn.Linear(3, 1)
    with torch.no_grad():
        critic.weight.copy_(torch.tensor([[3.0, 0.0, 4.0]]))
    penalty = gradient_penalty(critic, torch.randn(5, 3), torch.randn(5, 3))
    assert float(penalty.detach()) == pytest.approx(16.0)
    penalty.backward()
    torch.testing.assert_close(critic.weight.grad, 2 * 4 * torch.tensor([[0.6, 0.0, 0.8]]))


@pytest.mark.untyped
def test_refusals():
    with pytest.raises(ValueError, match="kind"):
        AdversarialLoss("hinge")
    with pytest.raises(ValueError, match="negative"):
        AdversarialLoss(gradient_penalty=-1)
