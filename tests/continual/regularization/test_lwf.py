"""Learning without forgetting: the distance to the old outputs, on old classes, once per batch."""

import copy

import pytest
import torch
from torch import nn

from neurarium.continual import LearningWithoutForgetting
from neurarium.testing import check_strategy


def learned():
    torch.manual_seed(0)
    model = nn.Linear(5, 4).double()
    strategy = LearningWithoutForgetting(model, strength=0.7, temperature=2.0)
    x = torch.randn(12, 5, dtype=torch.float64)
    strategy.begin_task(0)
    model(x)
    assert float(strategy.penalty()) == 0
    strategy.observe(x, torch.tensor([0, 2] * 6))
    strategy.end_task()
    return strategy, x


def test_contract():
    check_strategy(LearningWithoutForgetting)


def test_penalty_is_the_divergence_over_old_classes():
    strategy, x = learned()
    old = copy.deepcopy(strategy.teacher)
    with torch.no_grad():
        strategy.model.weight += 0.3 * torch.randn(4, 5, dtype=torch.float64)
    strategy.model(x)
    p = (old(x)[:, [0, 2]] / 2).softmax(1)
    q = (strategy.model(x)[:, [0, 2]] / 2).softmax(1)
    expected = 0.7 * 4 * (p * (p / q).log()).sum(1).mean()
    found = strategy.penalty()
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    assert float(strategy.penalty()) == 0  # taken once
    found.backward()
    assert float(strategy.model.weight.grad[[1, 3]].abs().max()) == 0
    assert float(strategy.model.weight.grad[[0, 2]].abs().max()) > 0
    assert all(p.grad is None for p in strategy.teacher.parameters())


def test_nothing_moved_costs_nothing_and_evaluation_is_not_training():
    strategy, x = learned()
    strategy.model(x)
    assert float(strategy.penalty().detach()) == pytest.approx(0, abs=1e-12)
    strategy.predict(x)
    assert not strategy.penalty().requires_grad


def test_state_dict_brings_the_teacher():
    strategy, x = learned()
    fresh = LearningWithoutForgetting(nn.Linear(5, 4).double(), strength=0.7)
    fresh.load_state_dict(strategy.state_dict())
    for s in (strategy, fresh):
        with torch.no_grad():
            s.model.weight += 0.1
        s.model.weight.data[0] += 1
        s.model(x)
    assert fresh.penalty().item() == pytest.approx(strategy.penalty().item(), rel=1e-12)


def test_refusals():
    for wrong in ({"strength": -1}, {"temperature": 0}):
        with pytest.raises(ValueError, match="strength must be at least 0"):
            LearningWithoutForgetting(nn.Linear(2, 2), **wrong)
