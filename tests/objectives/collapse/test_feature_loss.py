"""Penalties on features: the decay whose batches add up to the data set's, through any learning rule's loss."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import Arrays, Batches
from neurarium.learning import Backprop
from neurarium.objectives import FeatureDecay, FeatureLoss
from neurarium.training import fit


def test_batches_average_to_the_sum_over_the_data():
    h = torch.randn(60, 5)
    decay = FeatureDecay(0.3, examples=60)
    mean = torch.stack([decay(part) for part in h.split(15)]).mean()
    torch.testing.assert_close(mean, 0.15 * h.square().sum())
    torch.testing.assert_close(decay(h), 0.15 * h.square().sum())


def test_the_gradient_is_that_of_loss_plus_decay():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    x, y = torch.randn(8, 4), torch.arange(8) % 3
    with FeatureLoss(model, cross_entropy, FeatureDecay(0.1, 8)) as loss:
        Backprop(model, loss).assign_credit(x, y)
    found = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    h = model[:2](x)
    (cross_entropy(model[2](h), y) + 0.05 * h.square().sum()).backward()
    for a, p in zip(found, model.parameters()):
        torch.testing.assert_close(a, p.grad)
    assert not model._forward_pre_hooks
    assert not model[2]._forward_hooks


def test_it_trains_in_the_shared_loop():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    arrays = Arrays(torch.randn(24, 4), torch.arange(24) % 3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before = model[:2](arrays.x).square().sum()
    with FeatureLoss(model, lambda output, y: 0 * output.sum(), FeatureDecay(0.1, 24)) as loss:
        fit(Backprop(model, loss), Batches(arrays, 8), optimizer, epochs=3)
    assert model[:2](arrays.x).square().sum() < before


def test_refusals():
    model = nn.Sequential(nn.Linear(4, 3))
    with pytest.raises(ValueError, match="did you mean '0'"):
        FeatureLoss(model, cross_entropy, FeatureDecay(0.1, 8), layer="00")
    with pytest.raises(ValueError, match="no linear layer"):
        FeatureLoss(nn.Flatten(), cross_entropy, FeatureDecay(0.1, 8))
    with pytest.raises(ValueError, match="strength"):
        FeatureDecay(-1.0, 8)
    with (
        FeatureLoss(model, cross_entropy, FeatureDecay(0.1, 8)) as loss,
        pytest.raises(RuntimeError, match="forward pass"),
    ):
        loss(torch.randn(2, 3), torch.tensor([0, 1]))
    with FeatureLoss(model, lambda o, y: o.sum(), FeatureDecay(0.1, 8)) as loss, pytest.raises(ValueError, match="not"):
        loss(model(torch.randn(2, 5, 4)), torch.tensor([0, 1]))
