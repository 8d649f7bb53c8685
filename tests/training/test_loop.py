"""Evaluation and the loop. (Two ranks against one process: the composition tests of all rules.)"""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.learning import Backprop
from neurarium.training import evaluate, fit


def problem():
    torch.manual_seed(0)
    x = torch.randn(64, 5)
    return nn.Linear(5, 3), [(x, x[:, :3].argmax(1))]


def test_fit_is_the_loop_written_by_hand():
    model, loader = problem()
    twin = nn.Linear(5, 3)
    twin.load_state_dict(model.state_dict())
    fit(Backprop(model, cross_entropy), loader, torch.optim.SGD(model.parameters(), 0.1), epochs=5)
    optimizer = torch.optim.SGD(twin.parameters(), 0.1)
    for _ in range(5):
        optimizer.zero_grad()
        cross_entropy(twin(loader[0][0]), loader[0][1]).backward()
        optimizer.step()
    assert torch.equal(model.weight, twin.weight)


def test_a_penalty_is_added_to_the_gradient():
    model, loader = problem()
    with torch.no_grad():
        model.weight.fill_(1.0)
    seen = []
    fit(
        Backprop(model, cross_entropy), loader, torch.optim.SGD(model.parameters(), 0.0),
        penalties=[lambda: 10 * model.weight.sum()], callbacks=[lambda step, loss: seen.append((step, loss))],
    )  # fmt: skip
    extra = model.weight.grad.clone()
    model.zero_grad()
    cross_entropy(model(loader[0][0]), loader[0][1]).backward()
    assert torch.allclose(extra - model.weight.grad, torch.full_like(extra, 10.0))
    assert seen[0][0] == 1


def test_evaluate_weighs_batches_by_their_size_and_puts_the_mode_back():
    model = nn.Sequential(nn.Dropout(0.5), nn.Identity()).train()
    x = torch.eye(3)
    batches = [(x, torch.tensor([0, 1, 2])), (x[:1], torch.tensor([2]))]
    assert evaluate(model, batches) == pytest.approx(0.75)
    assert model.training


def test_what_cannot_be_trained_is_said():
    model, loader = problem()
    optimizer = torch.optim.SGD(model.parameters(), 1e30)
    with pytest.raises(ValueError, match="gave no batches"):
        fit(Backprop(model, cross_entropy), [], optimizer)
    with pytest.raises(ValueError, match="epochs must not be negative"):
        fit(Backprop(model, cross_entropy), loader, optimizer, epochs=-1)
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        fit(Backprop(model, cross_entropy), [(x * 1e20, y) for x, y in loader], optimizer, epochs=4)
    with pytest.raises(ValueError, match="gave no batches"):
        evaluate(model, [])
