"""The merged quadratic penalty against the explicit sum."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from neurarium.objectives import QuadraticPenalty


def springs(count, shapes):
    draw = torch.Generator().manual_seed(count)
    return [
        (
            {k: torch.rand(s, generator=draw, dtype=torch.float64) * 10**i for k, s in shapes.items()},
            {k: torch.randn(s, generator=draw, dtype=torch.float64) for k, s in shapes.items()},
        )
        for i in range(count)
    ]


def explicit(pairs, theta):
    return sum(0.5 * (f[k] * (theta[k] - m[k]).square()).sum() for f, m in pairs for k in f)


SHAPES = {"a.weight": (3, 4), "a.bias": (3,), "scale": ()}


@given(count=st.integers(1, 5))
@settings(max_examples=5, deadline=None)
def test_value_and_gradient_equal_the_explicit_sum(count):
    pairs, penalty = springs(count, SHAPES), QuadraticPenalty()
    for f, m in pairs:
        penalty.add(f, m)
    theta = {k: torch.randn(s, dtype=torch.float64, requires_grad=True) for k, s in SHAPES.items()}
    merged, summed = penalty(theta), explicit(pairs, theta)
    torch.testing.assert_close(merged, summed, rtol=1e-10, atol=0)
    for mine, wanted in zip(*(torch.autograd.grad(2.5 * v, list(theta.values())) for v in (merged, summed))):
        torch.testing.assert_close(mine, wanted, rtol=1e-10, atol=1e-10)


def test_gradient_by_finite_differences():
    penalty = QuadraticPenalty()
    penalty.add(*springs(1, SHAPES)[0])
    theta = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in SHAPES.values()]
    assert torch.autograd.gradcheck(lambda *t: penalty(dict(zip(SHAPES, t))) * 3, theta)


def test_nothing_cancels_near_a_far_centre():
    # In float32, F theta^2 - 2 F m theta + F m^2 would lose everything here.
    penalty, m = QuadraticPenalty(), torch.full((1000,), 1000.0)
    penalty.add({"w": torch.full((1000,), 1e4)}, {"w": m})
    theta = torch.nextafter(m, m + 1)
    step = float((theta - m)[0])
    assert float(penalty({"w": theta})) == pytest.approx(0.5 * 1e7 * step**2, rel=1e-5)


def test_free_parameters_and_zero_stiffness():
    penalty = QuadraticPenalty()
    assert float(penalty({"w": torch.ones(2)})) == 0
    penalty.add({"w": torch.zeros(2)}, {"w": torch.zeros(2)})
    penalty.add({"w": torch.tensor([0.0, 2.0])}, {"w": torch.ones(2)})
    w, new = torch.full((2,), 3.0, requires_grad=True), torch.ones(5, requires_grad=True)
    value = penalty({"w": w, "new": new})
    value.backward()
    assert float(value) == pytest.approx(4.0)
    assert w.grad.tolist() == [0, 4]
    assert new.grad is None


def test_changed_parameters_are_refused_by_name():
    penalty = QuadraticPenalty()
    penalty.add({"w": torch.ones(2)}, {"w": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"'w' had shape \[2\] and is gone from the model"):
        penalty({"v": torch.ones(2)})
    with pytest.raises(ValueError, match=r"'w' had shape \[2\] and now has shape \[3\]"):
        penalty({"w": torch.ones(3)})
    with pytest.raises(ValueError, match="had shape"):
        penalty.add({"w": torch.ones(3)}, {"w": torch.ones(3)})
    with pytest.raises(ValueError, match="'w' must be finite and not negative"):
        penalty.add({"w": -torch.ones(2)}, {"w": torch.ones(2)})
    with pytest.raises(ValueError, match="centre needs parameter 'w'"):
        penalty.add({"w": torch.ones(2)}, {})


def test_state_loads_into_a_fresh_or_a_fuller_object_inside_another_module():
    holder = nn.Module()
    holder.penalty = QuadraticPenalty()
    one = copy.deepcopy(holder)
    for f, m in springs(2, SHAPES):
        holder.penalty.add(f, m)
    one.penalty.add({"stale": torch.ones(2)}, {"stale": torch.zeros(2)})
    state = holder.state_dict()
    one.load_state_dict(state)
    assert one.penalty.stiffness.keys() == SHAPES.keys()
    theta = {k: torch.randn(s, dtype=torch.float64) for k, s in SHAPES.items()}
    assert torch.equal(one.penalty(theta), holder.penalty(theta))
    one.penalty.scale(0.0)
    assert float(holder.penalty(theta)) != float(one.penalty(theta))


def test_proximal_step_is_the_minimiser():
    penalty, theta = QuadraticPenalty(), {k: torch.randn(s, dtype=torch.float64) for k, s in SHAPES.items()}
    penalty.add(*springs(1, SHAPES)[0])
    moved = {k: v.clone() for k, v in theta.items()}
    penalty.proximal(moved, 0.7)
    for k, v in moved.items():
        f, m = penalty.stiffness[k], penalty.centre[k]
        torch.testing.assert_close(v, (theta[k] + 0.7 * f * m) / (1 + 0.7 * f))


def test_half_precision_parameters():
    penalty = QuadraticPenalty()
    w = torch.randn(8, dtype=torch.bfloat16, requires_grad=True)
    penalty.add({"w": torch.full((8,), 3.0)}, {"w": torch.zeros(8)})
    value = penalty({"w": w})
    value.backward()
    assert value.dtype == torch.float32
    assert w.grad.dtype == torch.bfloat16
    torch.testing.assert_close(w.grad.float(), 3 * w.detach().float(), rtol=1e-2, atol=0)
