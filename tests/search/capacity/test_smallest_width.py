"""Networks trained together are those trained alone; where success begins is found in curves that are known."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import discs
from neurarium.search import smallest_width, train_together
from neurarium.search.capacity._smallest_width import phase_transition


def build():
    return nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 2))


def test_together_is_as_alone():
    data = discs(1).sample(60)
    together = train_together(build, data, [3, 4], steps=20)
    for seed, found in zip([3, 4], together):
        torch.manual_seed(seed)
        model = build()
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for step in range(20):
            if step == 14:
                optimizer.param_groups[0]["lr"] = 1e-3
            optimizer.zero_grad()
            cross_entropy(model(data.x), data.y).backward()
            optimizer.step()
        for a, b in zip(found.parameters(), model.parameters()):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_a_clear_cut_transition():
    outcomes = torch.tensor([[False] * 8, [False] * 8, [True] * 8, [True] * 8])
    found = phase_transition([4, 8, 16, 32], outcomes)
    assert found.width == 16
    assert found.interval == (16, 16)
    assert 8 < found.middle < 16
    assert phase_transition([4, 8], outcomes[:2]).width == math.inf


def test_a_logistic_curve_comes_back():
    draw = torch.Generator().manual_seed(0)
    widths = [2, 4, 8, 16, 32, 64]
    rates = torch.tensor([1 / (1 + math.exp(-2 * math.log(w / 12))) for w in widths])
    found = phase_transition(widths, torch.rand(6, 400, generator=draw) < rates[:, None])
    assert found.middle == pytest.approx(12, rel=0.15)
    assert found.sharpness == pytest.approx(2, rel=0.15)
    assert found.width == 16


def test_widths_that_can_and_cannot():
    data = discs(1).sample(300)

    def good(model):
        with torch.no_grad():
            return float((model(data.x).argmax(1) == data.y).double().mean()) > 0.9

    def wide(width):
        return nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 2))

    found = smallest_width(wide, data, [32, 1], range(2), good, steps=200)
    assert found.widths == (1, 32)
    assert found.rates.tolist() == [0, 1]
    assert "width 32" in found.summary()
    with pytest.raises(ValueError, match="at least one width"):
        smallest_width(wide, data, [], range(2), good)
    sizes = iter([2, 3])
    with pytest.raises(ValueError, match="one shape"):
        train_together(lambda: nn.Linear(2, next(sizes)), data, range(2))
