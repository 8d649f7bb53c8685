"""Optimizers without multiplications against torch's where products are exact, and against the formulas."""

import copy
import math

import pytest
import torch
from torch import nn

from neurarium.learning import PAMSGD, PAMAdam, PAMAdamW
from neurarium.probes import multiplication_report


def exact(a, b):
    """A piecewise affine product by its definition, with true arithmetic."""
    if a == 0 or b == 0:
        return 0.0
    (ma, ea), (mb, eb) = math.frexp(abs(a)), math.frexp(abs(b))
    total = (2 * ma - 1) + (2 * mb - 1)
    size = 2.0 ** (ea + eb - 2) * (1 + total if total < 1 else 2 * total)
    return math.copysign(size, a * b)


def quotient(a, b):
    (ma, ea), (mb, eb) = math.frexp(abs(a)), math.frexp(b)
    rest = 2 * (ma - mb)
    return math.copysign(2.0 ** (ea - eb) * (1 + rest) if rest >= 0 else 2.0 ** (ea - eb - 1) * (2 + rest), a)


def root(x):
    m, e = math.frexp(x)
    log = exact(e - 1 + 2 * m - 1, 0.5)
    return 2.0 ** math.floor(log) * (1 + log - math.floor(log))


@pytest.mark.parametrize("kind", [PAMAdamW, PAMAdam])
def test_adam_follows_its_formulas(kind):
    p = nn.Parameter(torch.tensor([0.7, -2.0, 1e-3], dtype=torch.float64))
    expected, m, v = p.tolist(), [0.0] * 3, [0.0] * 3
    lr, b1, b2, decay = 3e-3, 0.9, 0.98, 0.1
    optimizer = kind([p], lr, (b1, b2), weight_decay=decay)
    for step in range(1, 6):
        p.grad = torch.tensor([0.3, 1.7, 0.02], dtype=torch.float64) * step
        for i, g in enumerate(p.grad.tolist()):
            g += exact(decay, expected[i]) if kind is PAMAdam else 0.0
            m[i] = exact(b1, m[i]) + exact(1 - b1, g)
            v[i] = exact(b2, v[i]) + exact(1 - b2, exact(g, g))
            change = quotient(quotient(m[i], 1 - b1**step), root(quotient(v[i], 1 - b2**step)) + 1e-8)
            expected[i] -= exact(lr, change) + (exact(lr * decay, expected[i]) if kind is PAMAdamW else 0.0)
        optimizer.step()
        assert p.tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.5}, {"momentum": 0.5, "nesterov": True, "weight_decay": 0.25}])
def test_sgd_by_powers_of_two_is_torchs(options):
    ours, theirs = nn.Linear(5, 3), nn.Linear(5, 3)
    theirs.load_state_dict(ours.state_dict())
    pairs = [(ours, PAMSGD(ours.parameters(), 0.125, **options)),
             (theirs, torch.optim.SGD(theirs.parameters(), 0.125, **options))]  # fmt: skip
    x = torch.randn(10, 4, 5)
    for model, optimizer in pairs:
        for batch in x:
            optimizer.zero_grad()
            model(batch).square().sum().backward()
            optimizer.step()
    assert torch.allclose(ours.weight, theirs.weight, rtol=1e-6)
    assert torch.allclose(ours.bias, theirs.bias, rtol=1e-6)


@pytest.mark.parametrize(
    "kind", [PAMAdamW, PAMAdam, lambda p: PAMSGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.01)]
)
def test_a_step_has_no_multiplication_and_learns(kind):
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = kind(model.parameters())
    x = torch.randn(64, 4)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5], [0.0]])
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        assert multiplication_report(optimizer.step).total == 0
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_state_survives_saving_and_groups_may_differ():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3).double())
    groups = [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[1].parameters()}]
    optimizer = PAMAdamW(groups, lr=0.01)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    other_model = copy.deepcopy(model)
    other = PAMAdamW([{"params": m.parameters()} for m in other_model])
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for p in other_model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    other.step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other_model.parameters()))


def test_squares_too_small_for_floats_move_nothing():
    p = nn.Parameter(torch.ones(2))
    p.grad = torch.tensor([1e-25, 0.0])
    PAMAdamW([p], weight_decay=0.0).step()
    assert torch.equal(p.detach(), torch.ones(2))


def test_bad_arguments_are_named():
    p = [nn.Parameter(torch.ones(1))]
    for options, word in (({"lr": -1}, "lr"), ({"betas": (1, 0.9)}, "betas"), ({"eps": 0.0}, "eps")):
        with pytest.raises(ValueError, match=word):
            PAMAdamW(p, **options)
    with pytest.raises(ValueError, match="nesterov"):
        PAMSGD(p, nesterov=True)
