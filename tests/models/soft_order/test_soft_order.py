"""Soft preferences: the limits of no and of all penalty, the closed form's gradient, and a mixture's ends."""

import pytest
import torch
from torch import nn

from neurarium.models import SoftDegreePolynomial, TradeoffMixture
from neurarium.objectives import degree_penalty


def data(n=30):
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(n, generator=draw, dtype=torch.float64)
    return x, torch.cos(4 * x) + 0.1 * torch.randn(n, generator=draw, dtype=torch.float64)


def test_no_penalty_is_least_squares():
    x, y = data()
    model = SoftDegreePolynomial(3).double().fit(x, y)
    table = torch.stack([x**k for k in range(4)], 1)
    wanted = torch.linalg.lstsq(table, y[:, None]).solution[:, 0]
    torch.testing.assert_close(model.coefficients, wanted, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(model(x), table @ wanted, rtol=1e-6, atol=1e-6)


def test_a_huge_penalty_leaves_the_mean():
    x, y = data()
    model = SoftDegreePolynomial(10, 1e6).double().fit(x, y)
    torch.testing.assert_close(
        model(torch.linspace(0, 1, 5, dtype=torch.float64)), y.mean().expand(5), rtol=1e-5, atol=1e-5
    )


def test_the_solution_is_a_minimum():
    x, y = data()
    model = SoftDegreePolynomial(6, 0.01).double().fit(x, y)
    c = model.coefficients.clone().requires_grad_()
    loss = ((x[:, None] ** torch.arange(7)) @ c - y).square().sum() + degree_penalty(c, 0.01)
    (gradient,) = torch.autograd.grad(loss, c)
    assert float(gradient.abs().max()) < 1e-8
    assert float(model.penalty()) == pytest.approx(float(degree_penalty(c.detach(), 0.01)))


def test_powers_cost_the_square_of_their_square():
    assert float(degree_penalty(torch.tensor([5.0, 1.0, 1.0, 2.0]), 0.1)) == pytest.approx(0.01 * (1 + 16 + 4 * 81))


def test_the_mixture_has_two_ends_and_one_parameter():
    small, large = nn.Linear(3, 2), nn.Linear(3, 2)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    for weight, end in ((0.0, small), (1.0, large)):
        torch.testing.assert_close(TradeoffMixture(small, large, initial=weight)(x), end(x))
    mixture = TradeoffMixture(small, large, decay=0.2)
    assert [name for name, p in mixture.named_parameters() if p.requires_grad] == ["weight"]
    (mixture(x).square().sum() + mixture.penalty()).backward()
    expected = 2 * float(((small(x) + large(x)) / 2 * (large(x) - small(x))).sum()) + 0.2 * 0.5
    assert float(mixture.weight.grad) == pytest.approx(expected, rel=1e-5)


def test_refusals():
    with pytest.raises(ValueError, match="degree"):
        SoftDegreePolynomial(-1)
    with pytest.raises(ValueError, match="example"):
        SoftDegreePolynomial(1).fit(torch.zeros(0), torch.zeros(0))
    with pytest.raises(ValueError, match="decay"):
        TradeoffMixture(nn.Identity(), nn.Identity(), -1)
    with pytest.raises(ValueError, match="alpha"):
        degree_penalty(torch.zeros(2), -1)
