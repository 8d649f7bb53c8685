"""Monotonic networks: their guarantee, their estimators, and networks held afterwards."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from neurarium.models import MonotonicClassifier, MonotonicNet, MonotonicRegressor, constrain
from neurarium.probes import certify, monotonicity_violations

T = [1, -1, 0, 1]


@pytest.mark.parametrize("architecture", [1, 2])
@pytest.mark.filterwarnings("ignore:a layer of")
def test_networks_are_monotonic_before_and_after_training(architecture):
    torch.manual_seed(architecture)
    net = MonotonicNet(T, (16, 16), 2, architecture).double()
    x = torch.randn(10_000, 4, dtype=torch.float64)
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for rows in x.split(500):
        optimizer.zero_grad()
        (net(rows) - rows[:, :2].sin()).square().mean().backward()
        optimizer.step()
    found = monotonicity_violations(net, x, T, tolerance=1e-12)
    assert found.rate == found.by_pair == found.worst == 0
    assert set(found.by_gradient) == {0.0}


@pytest.mark.filterwarnings("ignore:a layer of")
def test_curvature_per_input():
    torch.manual_seed(0)
    net = MonotonicNet([1, -1, 0], (16, 16), curvature=[1, -1, 0]).double()
    a, b = (torch.randn(5000, 3, dtype=torch.float64) for _ in range(2))
    for column, sign in ((0, 1), (1, -1)):
        other = a.clone()
        other[:, column] = b[:, column]
        excess = (net(a) + net(other)) / 2 - net((a + other) / 2)
        assert bool((sign * excess >= -1e-12).all())


def test_categories_are_free_and_numbers_beside_them_are_held():
    torch.manual_seed(0)
    net = MonotonicNet([0, 1], (16,), categories={0: 4})
    x = torch.stack([torch.randint(4, (500,)).float(), torch.randn(500)], 1)
    assert monotonicity_violations(net, x, [0, 1]).rate == 0
    assert len({round(float(net(torch.tensor([[k, 0.0]])).detach()), 6) for k in range(4)}) == 4
    with pytest.raises(ValueError, match="category input 1 must"):
        MonotonicNet([0, 1], categories={1: 3})


def test_balanced_biases_centre_every_unit():
    torch.manual_seed(0)
    net, x = MonotonicNet(T, (64, 64, 64)), torch.rand(400, 4)
    before = float(net(x).mean().abs())
    net.balance_(x)
    assert float(net(x).mean().abs()) < 1e-5 < before


def test_a_network_that_exists_is_held():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Dropout(0.1), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
    held = constrain(model, T)
    assert certify(held, T).proven
    assert monotonicity_violations(held, torch.randn(500, 4), T).rate == 0
    assert monotonicity_violations(model, torch.randn(500, 4), T).rate > 0
    assert isinstance(model[1], nn.GELU)  # the model handed in is left alone
    with pytest.raises(ValueError, match="LayerNorm"):
        constrain(nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 1)), T)
    with pytest.raises(ValueError, match=r"no nn\.Linear"):
        constrain(nn.Conv1d(1, 1, 1), T)


@pytest.mark.untyped
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([MonotonicRegressor(epochs=20), MonotonicClassifier(epochs=20)])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def test_columns_by_name():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": rng.uniform(20, 60, 300), "income": rng.lognormal(10, 1, 300)})
    y = (np.log(frame.income) + 0.3 * rng.standard_normal(300) > 10).astype(int)
    model = MonotonicClassifier(monotone={"income": 1}, epochs=5, random_state=0).fit(frame, y)
    more = frame.assign(income=frame.income * 1.5)
    assert (model.predict_proba(more)[:, 1] >= model.predict_proba(frame)[:, 1]).all()
    assert model.score(frame, y) > 0.8
    with pytest.raises(ValueError, match="column 'wage'"):
        MonotonicClassifier(monotone={"wage": 1}).fit(frame, y)


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 0], (8,), 1, 3), "architecture must be 1 or 2"),
        (([1, 5],), "-1, 0 and 1"),
        (([1, 0], ()), "at least one layer"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        MonotonicNet(*arguments)
