"""Constrained training and the echo-state bound against closed forms, identities and torch's own recurrence."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn
from torch.nn.functional import mse_loss

from neurarium.layers import SigmoidRNN
from neurarium.learning import Backprop, Inequality, MaxRowSum, PrimalDual, echo_state_constraints
from neurarium.models import ARMARNN
from neurarium.objectives import echo_state_bound
from neurarium.probes import forgetting_rate
from neurarium.training import fit


def descend(loss, parameters, constrained, steps=4000, lr=0.05):
    optimizer = torch.optim.SGD(parameters, lr)
    constrained.attach(optimizer)
    for _ in range(steps):
        optimizer.zero_grad()
        (loss() + constrained()).backward()
        optimizer.step()


def test_one_number_meets_its_bound_with_the_multiplier_of_the_optimum():
    w = nn.Parameter(torch.zeros(1, 1, dtype=torch.float64))
    constrained = PrimalDual(MaxRowSum(w, 4.0), dual_lr=0.05)
    descend(lambda: 0.5 * (w - 6).square().sum(), [w], constrained)
    assert w.item() == pytest.approx(4.0, abs=1e-6)
    assert constrained.multipliers["0"].item() == pytest.approx(2.0, abs=1e-6)  # w - 6 + lambda sign(w) = 0


def test_each_row_has_a_multiplier_of_its_own():
    a = torch.tensor([[3.0, 2.0], [0.5, 0.5]], dtype=torch.float64)
    w = nn.Parameter(torch.zeros_like(a))
    constrained = PrimalDual(MaxRowSum(w, 4.0), dual_lr=0.05)
    descend(lambda: 0.5 * (w - a).square().sum(), [w], constrained)
    torch.testing.assert_close(
        w.detach(), torch.tensor([[2.5, 1.5], [0.5, 0.5]], dtype=torch.float64), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(constrained.multipliers["0"], torch.tensor([0.5, 0.0], dtype=torch.float64))
    assert constrained.active() == 0.5
    assert constrained.slack() == pytest.approx(0.0, abs=1e-6)


def test_any_inequality_agrees_with_a_solver():
    target = np.array([2.0, 1.0])
    solved = minimize(
        lambda p: 0.5 * ((p - target) ** 2).sum(), np.zeros(2),
        constraints=[{"type": "ineq", "fun": lambda p: 1.0 - p @ p}, {"type": "ineq", "fun": lambda p: 0.3 - p[1]}],
    )  # fmt: skip
    w = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    pair = {"ball": Inequality(lambda: w.square().sum() - 1.0), "ceiling": Inequality(lambda: w[1] - 0.3)}
    constrained = PrimalDual(pair, dual_lr=0.05)
    descend(lambda: 0.5 * (w - torch.from_numpy(target)).square().sum(), [w], constrained)
    np.testing.assert_allclose(w.detach().numpy(), solved.x, atol=1e-4)
    assert list(constrained.multipliers) == ["ball", "ceiling"]


def task():
    torch.manual_seed(3)
    model = ARMARNN(4, 8, 3)
    x, y = torch.randn(6, 10, 4), torch.randn(6, 10, 3)
    return Backprop(model, mse_loss), [(x, y), (x + 1, y)]


@pytest.mark.parametrize("bound", [math.inf, 1e6])
def test_a_bound_that_never_binds_leaves_the_trajectory_bit_identical(bound):
    states = []
    for constrained in (False, True):
        rule, loader = task()
        optimizer = torch.optim.SGD(rule.parameters(), 0.1, momentum=0.9)
        penalties = []
        if constrained:
            penalties = [PrimalDual(MaxRowSum(rule.model.rnn.weight_hh_l0, bound))]
            penalties[0].attach(optimizer)
        fit(rule, loader, optimizer, epochs=3, penalties=penalties)
        states.append(copy.deepcopy(rule.model.state_dict()))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not penalties[0].multipliers["0"].any()
    assert int(penalties[0].steps) == 6


def test_penalty_is_finite_beside_an_infinite_bound_and_has_the_stated_gradient():
    w = nn.Parameter(torch.tensor([[1.0, -2.0], [0.0, 3.0]], dtype=torch.float64))
    mixed = Inequality(lambda: torch.stack([w[0].abs().sum() - 1, w[1].abs().sum() - math.inf]))
    constrained = PrimalDual([mixed, MaxRowSum(w, 2.0)], dual_lr=0.5)
    assert not constrained().requires_grad  # nothing is violated as far as it knows
    constrained.dual_step()
    torch.testing.assert_close(constrained.multipliers["1"], torch.tensor([0.5, 0.5], dtype=torch.float64))
    penalty = constrained()
    assert penalty.item() == pytest.approx(1.0 * 2 + 0.5 * 1 + 0.5 * 1)
    penalty.backward()
    torch.testing.assert_close(w.grad, torch.tensor([[1.5, -1.5], [0.0, 0.5]], dtype=torch.float64))  # sign(0) = 0


def test_multipliers_survive_a_checkpoint():
    w = nn.Parameter(torch.full((2, 3), 2.0))
    first = PrimalDual(MaxRowSum(w, 4.0))
    first.dual_step()
    second = PrimalDual(MaxRowSum(w, 4.0))
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.multipliers["0"], first.multipliers["0"])
    assert second().item() == first().item() > 0


def test_projection_is_the_nearest_point_of_the_ball():
    w = nn.Parameter(torch.randn(5, 7, dtype=torch.float64) * torch.tensor([0.1, 1, 2, 3, 4]).double()[:, None])
    before = w.detach().clone()
    constraint = MaxRowSum(w, 4.0)
    moved = constraint.project_()
    assert moved == int((before.abs().sum(1) > 4).sum()) > 0
    assert torch.equal(w[0], before[0])
    for row, start in zip(w.detach().numpy(), before.numpy(), strict=True):
        if np.abs(start).sum() <= 4:
            continue
        # positive and negative parts make the L1 ball a simplex
        split = minimize(
            lambda p, s=start: ((p[:7] - p[7:] - s) ** 2).sum(), np.zeros(14), bounds=[(0, None)] * 14,
            constraints=[{"type": "ineq", "fun": lambda p: 4 - p.sum()}], options={"ftol": 1e-14, "maxiter": 500},
        ).x  # fmt: skip
        np.testing.assert_allclose(row, split[:7] - split[7:], atol=1e-5)


def test_projection_every_other_step():
    w = nn.Parameter(torch.full((1, 2), 3.0))
    constrained = PrimalDual(MaxRowSum(w, 4.0), project_every=2)
    constrained.dual_step()
    assert w.abs().sum() == 6
    constrained.dual_step()
    assert w.abs().sum() == 4


@pytest.mark.parametrize("make", [nn.RNN, SigmoidRNN])
def test_constraints_are_found_in_stacks_and_both_directions(make):
    model = nn.ModuleDict({"rnn": make(3, 5, num_layers=2, bidirectional=True), "out": nn.Linear(10, 2)})
    found = echo_state_constraints(model, margin=0.1)
    ends = ("l0", "l0_reverse", "l1", "l1_reverse")
    assert list(found) == [f"rnn.weight_hh_{end}" for end in ends]
    assert {c.bound for c in found.values()} == {0.9 * (1.0 if make is nn.RNN else 4.0)}
    assert all(c.parameter is getattr(model["rnn"], f"weight_hh_{end}") for c, end in zip(found.values(), ends))


def test_wrong_requests_are_refused():
    w = nn.Parameter(torch.ones(2, 2))
    with pytest.raises(ValueError, match="dual_lr must be positive"):
        PrimalDual(MaxRowSum(w, 1.0), dual_lr=0.0)
    with pytest.raises(ValueError, match="bound must be positive"):
        MaxRowSum(w, 0.0)
    with pytest.raises(ValueError, match="takes no gradient"):
        MaxRowSum(torch.ones(2, 2), 1.0)
    with pytest.raises(ValueError, match="give gamma="):
        echo_state_bound("gelu")
    assert echo_state_bound("gelu", gamma=1.13) == pytest.approx(1 / 1.13)
    with pytest.raises(TypeError, match="GRU: its gates"):
        echo_state_constraints(nn.Sequential(nn.GRU(2, 2)))
    with pytest.raises(ValueError, match="no recurrent matrix"):
        echo_state_constraints(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="project_every"):
        PrimalDual(Inequality(lambda: w.sum()), project_every=1)


def bounded(rnn, norm):
    with torch.no_grad():
        w = rnn.weight_hh_l0
        w.mul_(norm / w.abs().sum(1).max())
    return rnn.double()


@pytest.mark.parametrize(("make", "norm"), [(SigmoidRNN, 3.6), (nn.RNN, 0.9)])
def test_two_starts_and_gradients_shrink_by_the_bound_at_least(make, norm):
    rnn = bounded(make(3, 6, batch_first=True), norm)
    x = torch.randn(4, 30, 3, dtype=torch.float64)
    found = forgetting_rate(rnn, x)
    for t, distance in enumerate(found.distances):
        assert distance <= 0.9**t * found.distances[0] + 1e-15
    for lag, gradient in enumerate(found.gradients):
        assert gradient <= 0.9**lag * found.gradients[0] + 1e-15
    assert found.gradients[0] == pytest.approx(1.0)
    assert found.forgets
    assert found.rate < 0.9

    def last(start):
        return rnn(x[:1, :5], start[None, None])[1].flatten()

    jacobian = torch.autograd.functional.jacobian(last, torch.rand(6, dtype=torch.float64))
    assert jacobian.abs().sum(1).max() <= 0.9**5


def test_above_the_bound_a_network_can_remember():
    rnn = SigmoidRNN(1, 1, batch_first=True).double()
    with torch.no_grad():
        rnn.weight_hh_l0.fill_(10.0)
        rnn.bias_hh_l0.fill_(-5.0)
        rnn.bias_ih_l0.zero_()
        rnn.weight_ih_l0.zero_()
    found = forgetting_rate(rnn, torch.zeros(8, 20, 1, dtype=torch.float64))
    assert found.distances[-1] > 0.5  # two stable states: where it began decides
