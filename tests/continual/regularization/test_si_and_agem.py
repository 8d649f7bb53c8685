"""Synaptic intelligence against its sums, averaged GEM against its projection."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from neurarium.continual import AveragedGEM, Finetune, SynapticIntelligence, learn_stream
from neurarium.data import load, permuted_stream


def steps(strategy, x, y, count=20, lr=0.05):
    optimizer = torch.optim.SGD(strategy.model.parameters(), lr)
    moves = []
    for _ in range(count):
        optimizer.zero_grad()
        mse_loss(strategy(x), y).backward()
        before = strategy.model.weight.detach().clone()
        optimizer.step()
        moves.append((strategy.model.weight.grad.clone(), strategy.model.weight.detach() - before))
        strategy.observe(x, y)
    return moves


def test_importance_is_the_gain_over_the_squared_way():
    torch.manual_seed(0)
    strategy = SynapticIntelligence(nn.Linear(3, 2, bias=False), damping=0.2, strength=4.0)
    x, y = torch.randn(40, 3), torch.randn(40, 2)
    start = strategy.model.weight.detach().clone()
    before = mse_loss(strategy(x), y).item()
    strategy.begin_task(0)
    moves = steps(strategy, x, y)
    gained = -sum(g * move for g, move in moves)
    expected = gained.clamp(min=0) / ((strategy.model.weight.detach() - start).square() + 0.2)
    assert torch.allclose(strategy.importance(None)["weight"], expected, atol=1e-6)
    # small steps: the sum of all gains is what the loss fell by
    assert float(gained.sum()) == pytest.approx(before - mse_loss(strategy(x), y).item(), rel=0.1)
    strategy.end_task()
    with torch.no_grad():
        strategy.model.weight += 0.3
    assert float(strategy.penalty().detach()) == pytest.approx(float(4 / 2 * (expected * 0.3**2).sum()), rel=1e-4)


def test_a_task_nobody_watched_is_no_task():
    strategy = SynapticIntelligence(nn.Linear(3, 2))
    strategy.begin_task(0)
    with pytest.raises(ValueError, match="observe"):
        strategy.end_task()
    with pytest.raises(ValueError, match="damping"):
        SynapticIntelligence(nn.Linear(3, 2), damping=0.0)


def test_the_sums_survive_a_restart():
    torch.manual_seed(0)
    x, y = torch.randn(40, 3), torch.randn(40, 2)
    one = SynapticIntelligence(nn.Linear(3, 2, bias=False))
    one.begin_task(0)
    steps(one, x, y, 5)
    other = SynapticIntelligence(nn.Linear(3, 2, bias=False))
    other.load_state_dict(one.state_dict())
    for strategy in (one, other):
        steps(strategy, x, y, 5)
    assert torch.equal(one.importance(None)["weight"], other.importance(None)["weight"])


@pytest.mark.parametrize("sign", [1, -1])
def test_only_steps_against_the_memory_are_bent(sign):
    torch.manual_seed(0)
    strategy = AveragedGEM(nn.Linear(3, 2), capacity=50, batch_size=50)
    x, y = torch.randn(50, 3), torch.randint(2, (50,))
    optimizer = torch.optim.SGD(strategy.model.parameters(), 0.1)
    strategy.attach(optimizer)
    strategy.begin_task(0)
    strategy.observe(x, y)
    strategy.end_task()
    parameters = list(strategy.model.parameters())
    memory = torch.autograd.grad(cross_entropy(strategy(x), y), parameters)
    drawn = [torch.randn_like(p) for p in parameters]
    along = sum(float((g * r).sum()) for g, r in zip(drawn, memory, strict=True))
    drawn = [g * (sign if along > 0 else -sign) for g in drawn]
    for p, g in zip(parameters, drawn, strict=True):
        p.grad = g.clone()
    strategy.generator = torch.Generator().manual_seed(0)
    rows = torch.randint(50, (50,), generator=torch.Generator().manual_seed(0))
    reference = torch.autograd.grad(cross_entropy(strategy(strategy.x[rows]), strategy.y[rows]), parameters)
    along = sum(float((g * r).sum()) for g, r in zip(drawn, reference, strict=True))
    optimizer.step()
    after = sum(float((p.grad * r).sum()) for p, r in zip(parameters, reference, strict=True))
    if along < 0:
        assert after == pytest.approx(0, abs=1e-5)
        length = sum(float(r.square().sum()) for r in reference)
        for p, g, r in zip(parameters, drawn, reference, strict=True):
            assert torch.allclose(p.grad, g - along / length * r, atol=1e-6)
    else:
        assert all(torch.equal(p.grad, g) for p, g in zip(parameters, drawn, strict=True))


def test_agem_says_when_it_would_do_nothing():
    strategy = AveragedGEM(nn.Linear(3, 2))
    strategy.observe(torch.randn(4, 3), torch.zeros(4, dtype=torch.long))
    strategy.end_task()
    with pytest.warns(UserWarning, match="attach"):
        strategy.begin_task(1)
    with pytest.raises(TypeError, match="strength"):
        AveragedGEM(nn.Linear(3, 2), strength=2.0)


@pytest.mark.parametrize("kind", [SynapticIntelligence, AveragedGEM])
def test_they_forget_less_than_plain_training(kind):
    stream = permuted_stream(load("digits").scaled().flat(), 4, seed=0)
    kept = {}
    for strategy_class in (kind, Finetune):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 50), nn.ReLU(), nn.Linear(50, 10))
        options = {"strength": 10.0} if strategy_class is SynapticIntelligence else {}
        matrix = learn_stream(strategy_class(model, **options), stream, epochs=5)
        kept[strategy_class] = matrix.average_accuracy
    assert kept[kind] > kept[Finetune] + 0.03


def test_steps_without_a_gradient_are_steps():
    strategy = SynapticIntelligence(nn.Linear(3, 2))
    strategy.begin_task(0)
    for p in strategy.model.parameters():
        p.grad = torch.zeros_like(p)
    strategy.observe(torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64))
    strategy.end_task()
    assert strategy.springs.largest() == 0
    strategy.begin_task(1)
    with pytest.raises(ValueError, match="no step of this task was seen"):
        strategy.end_task()
