"""Modes come back module by module, and what a user froze stays frozen."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.learning import Backprop
from neurarium.training import evaluate, evaluation, fit, training

X, Y = torch.randn(16, 4, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 3


def network():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))


def modes(model):
    return [module.training for module in model.modules()]


def train(model):
    fit(Backprop(model, cross_entropy), [(X, Y)], torch.optim.SGD(model.parameters(), 0.1), epochs=2)


def test_evaluation_puts_every_mode_back():
    model = network()
    model[1].eval()
    before = modes(model)
    with evaluation(model):
        assert not any(modes(model))
    assert modes(model) == before
    evaluate(model, [(X, Y)])
    assert modes(model) == before
    with pytest.raises(KeyError), evaluation(model):
        raise KeyError
    assert modes(model) == before


def test_a_frozen_batch_norm_stays_frozen_through_fit():
    model = network()
    model[1].eval()
    before, mean = modes(model), model[1].running_mean.clone()
    train(model)
    assert torch.equal(model[1].running_mean, mean)
    assert modes(model) == before


def test_a_network_that_was_only_being_evaluated_is_trained():
    model = network().eval()
    mean = model[1].running_mean.clone()
    train(model)
    assert not torch.equal(model[1].running_mean, mean)
    assert not any(modes(model))
    with training(model):
        assert all(modes(model))


def test_fit_adds_losses_up_in_double_precision():
    class Rule:
        losses = iter([1e8, 1.0, 1.0, 1.0])

        def assign_credit(self, x, y):
            return torch.tensor(next(self.losses))

    optimizer = torch.optim.SGD([nn.Parameter(X)], 0.1)
    assert fit(Rule(), [(X, Y)] * 4, optimizer) == [(1e8 + 3) / 4]


def test_fit_never_leaves_the_device():
    """On the meta device any ``.cpu()`` or ``float()`` in a step would raise; only the epoch's mean is read."""
    steps = []

    class Rule:
        def assign_credit(self, x, y):
            steps.append(x)
            return torch.ones((), device="meta")

    with pytest.raises(RuntimeError, match="meta"):
        fit(Rule(), [(X, Y)] * 3, torch.optim.SGD([nn.Parameter(X)], 0.1))
    assert len(steps) == 3
