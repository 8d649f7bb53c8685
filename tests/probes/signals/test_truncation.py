"""How much of a stack its first orders are: networks of which it is known."""

import pytest
import torch
from torch import nn

from neurarium.layers import Residual, ReZero
from neurarium.probes import truncation_error


def tanh_stack(size=4, width=6, scale=0.2):
    torch.manual_seed(0)
    blocks = [Residual(nn.Sequential(nn.Linear(width, width), nn.Tanh())) for _ in range(size)]
    for p in nn.ModuleList(blocks).parameters():
        p.data *= scale * 5
    return nn.Sequential(nn.Linear(3, width), *blocks, nn.Linear(width, 2))


def test_slopes_are_order_plus_one():
    found = truncation_error(tanh_stack(), torch.randn(16, 3))
    assert found.names == ("1", "2", "3", "4")
    assert found.slope == pytest.approx((2, 3), abs=0.15)
    assert found.relative[1] < found.relative[0]
    assert "order 2" in found.summary()


def test_orders_of_a_linear_stack_by_hand():
    torch.manual_seed(0)
    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    model, x = nn.Sequential(Residual(first), Residual(second)), torch.randn(5, 4)
    found = truncation_error(model, x)
    a, b = first.weight.double(), second.weight.double()
    x = x.double()
    one, two = x @ a.T + x @ b.T, x @ a.T @ b.T
    whole = x + one + two
    expected = [float(part.norm() / whole.norm()) for part in (x, one, two)]
    assert found.by_order == pytest.approx((*expected, 0), abs=1e-6)
    assert found.relative == pytest.approx((float(two.norm() / (one + two).norm()), 0), abs=1e-6)
    assert found.interaction[1][0] == pytest.approx(float(two.norm() / (one + two).norm()), abs=1e-6)
    assert found.interaction[0] == (0.0, 0.0)


def test_at_alpha_zero_there_is_nothing_to_expand_and_near_it_order_one_is_all():
    def stack(alpha):
        return nn.Sequential(*[ReZero(nn.Linear(4, 4), nn.Parameter(torch.full((1,), alpha))) for _ in range(3)])

    with pytest.raises(ValueError, match="add nothing"):
        truncation_error(stack(0.0), torch.randn(2, 4))
    coarse, fine = (truncation_error(stack(alpha), torch.randn(8, 4)).relative[0] for alpha in (1e-2, 1e-3))
    assert fine < 0.2 * coarse < 0.01


def test_the_longest_run_is_measured_and_networks_without_one_are_refused():
    with pytest.raises(ValueError, match="no run of two or more"):
        truncation_error(nn.Linear(3, 2), torch.randn(2, 3))
    model = nn.Sequential(*tanh_stack(2)[1:3], nn.ReLU(), *tanh_stack(3)[1:4])
    assert truncation_error(model, torch.randn(2, 6)).names == ("3", "4", "5")
