"""Counted multiplications against counts by hand."""

import torch
from matplotlib.figure import Figure
from torch import nn

from neurarium.probes import multiplication_report


def test_counts_by_hand():
    a, b = torch.randn(3, 4), torch.randn(4, 5)
    assert multiplication_report(lambda: a @ b).multiplications == {"mm": 60}
    assert multiplication_report(lambda: a * a / 3).multiplications == {"mul": 12, "div": 12}
    assert multiplication_report(lambda: torch.nn.functional.linear(a, b.T, torch.zeros(5))).total == 60
    x, w = torch.randn(2, 3, 6, 6), torch.randn(4, 3, 3, 3)
    assert multiplication_report(lambda: torch.conv2d(x, w)).total == 2 * 4 * 16 * 27
    q = torch.randn(1, 2, 5, 3)
    sums = multiplication_report(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q))
    assert sums.total >= 2 * 2 * 5 * 5 * 3


def test_what_does_not_multiply():
    x = torch.randn(5)
    i = torch.arange(5)
    report = multiplication_report(
        lambda: ((x + x - 1).relu().sum(), i * i, x[i], torch.cat([x, x]), x.view(torch.int32))
    )
    assert report.total == 0
    assert report.calls >= 7


def test_hidden_products_are_found():
    x = torch.randn(5)
    assert multiplication_report(lambda: torch.add(x, x, alpha=3)).total == 5
    assert multiplication_report(lambda: torch.add(x, x, alpha=-1)).total == 0
    assert multiplication_report(lambda: x.erfinv()).multiplications == {"erfinv": 5}  # not known: counted


def test_powers_of_two_are_set_apart():
    x = torch.randn(5)
    report = multiplication_report(lambda: (x * 0.25, x / 8, x * 3))
    assert report.scalings == {"mul": 5, "div": 5}
    assert report.multiplications == {"mul": 5}
    assert "powers of two" in report.summary()


def test_backward_and_optimizer_are_seen():
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x = torch.randn(4, 3)

    def step():
        model(x).sum().backward()
        optimizer.step()

    report = multiplication_report(step)
    assert report.multiplications["addmm"] == 24
    assert report.multiplications["mm"] == 24  # the weight's gradient
    assert report.multiplications["add"] == 8  # the rate
    assert report.plot(Figure().add_subplot()).patches
