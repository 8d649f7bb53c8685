"""The soft top-k against the transport problem it solves."""

import pytest
import torch
from torch.autograd import gradcheck

from neurarium.layers import soft_topk

DISTANCES = torch.tensor([0.90, 0.95, 1.00, 1.05, 1.10], dtype=torch.float64)


@pytest.mark.parametrize(
    ("eps", "wanted"),
    [
        (0.1, [0.7536, 0.5723, 0.3693, 0.2040, 0.1008]),
        (0.05, [0.9207, 0.6898, 0.2987, 0.0754, 0.0154]),
        (0.01, [1.0000, 0.9842, 0.0158, 0.0, 0.0]),
    ],
)
def test_worked_example(eps, wanted):
    found = soft_topk(DISTANCES, 2, eps=eps)
    assert found.tolist() == pytest.approx(wanted, abs=5e-5)
    assert float(found.sum()) == pytest.approx(2, abs=1e-9)


def sinkhorn(c, k, eps, iterations=4000):
    n = len(c)
    cost = torch.stack([c**2, (c - 1) ** 2], 1) / torch.maximum(c**2, (c - 1) ** 2).max()
    rows, columns = torch.full((n,), 1 / n).double().log(), torch.tensor([k / n, (n - k) / n]).double().log()
    f, g = torch.zeros(n).double(), torch.zeros(2).double()
    for _ in range(iterations):
        f = rows - torch.logsumexp(g - cost / eps, 1)
        g = columns - torch.logsumexp(f[:, None] - cost / eps, 0)
    return n * torch.exp(f[:, None] + g - cost / eps)[:, 0]


@pytest.mark.parametrize("eps", [0.01, 0.1])
def test_closed_form_is_converged_sinkhorn(eps):
    c = torch.rand(12, generator=torch.Generator().manual_seed(0)).double() * 2
    assert torch.allclose(soft_topk(c, 3, eps=eps), sinkhorn(c, 3, eps), atol=1e-4)


def test_gradients_are_those_of_the_implicit_function():
    c = torch.rand(3, 6, generator=torch.Generator().manual_seed(1)).double() * 0.5
    c[:, 0] = 1.5  # the row's largest cost counts as constant, so it must not be among what is differentiated
    assert gradcheck(
        lambda free: soft_topk(torch.cat([c[:, :1], free], 1), 2, eps=0.1)[:, 1:], (c[:, 1:].clone().requires_grad_(),)
    )


def test_limits_and_fractional_k():
    draws = torch.Generator().manual_seed(2)
    c = torch.rand(50, 128, generator=draws)
    for eps in (5e-4, 1e-9):
        found = soft_topk(c, 16, eps=eps)
        assert torch.allclose(found.sum(1), torch.full((50,), 16.0), atol=1e-3)
    hard = torch.zeros_like(c).scatter_(1, c.topk(16, largest=False).indices, 1.0)
    assert torch.allclose(found, hard, atol=1e-3)
    assert torch.allclose(soft_topk(c, 2.5, eps=1e4), torch.full_like(c, 2.5 / 128), atol=1e-4)
    assert torch.equal(soft_topk(1 - c, 16, largest=True), soft_topk(1 - (1 - c), 16))


def test_the_gate_of_one_row_does_not_depend_on_the_others():
    c = torch.rand(4, 9, generator=torch.Generator().manual_seed(3))
    assert torch.equal(soft_topk(c, 2)[1], soft_topk(torch.cat([3 * c[:1], c[1:2]]), 2)[1])
    many = 1 + 0.05 * torch.randn(200, 128, generator=torch.Generator().manual_seed(0)).double()
    together = soft_topk(many, 16)
    assert all(torch.equal(soft_topk(row, 16), found) for row, found in zip(many, together))


@pytest.mark.parametrize(("k", "eps"), [(0, 1.0), (5, 1.0), (2, 0.0)])
def test_misuse_is_explained(k, eps):
    with pytest.raises(ValueError, match="must be"):
        soft_topk(DISTANCES, k, eps=eps)
