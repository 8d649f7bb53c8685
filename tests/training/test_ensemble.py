"""Stacked training against networks trained one by one."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.training import Ensemble, train_ensemble


def build():
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))


def data():
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(12, 5, generator=generator), torch.arange(12) % 3) for _ in range(2)]


def trained(members=3, chunk=2, **options):
    settings = {"members": members, "steps": 7, "chunk": chunk, "seed": 4}
    optimizer = options.pop("optimizer", lambda p: torch.optim.Adam(p, 1e-2))
    return list(train_ensemble(build, data(), cross_entropy, optimizer, **settings | options))


@pytest.mark.parametrize(
    "optimizer", [lambda p: torch.optim.Adam(p, 1e-2, eps=1e-3), lambda p: torch.optim.SGD(p, 0.1, 0.9)]
)
def test_a_member_is_what_it_would_be_alone(optimizer):
    parts = trained(optimizer=optimizer)
    assert [len(part) for part in parts] == [2, 1]
    alone = trained(chunk=1, optimizer=optimizer)
    x = data()[0][0]
    together = torch.cat([part.predict_all(x) for part in parts])
    assert torch.allclose(together, torch.cat([part.predict_all(x) for part in alone]), atol=1e-6)
    still = trained(1, optimizer=lambda p: torch.optim.SGD(p, 0.0))[0]
    model = still.member(0).train()  # the first member's initial weights, now by an ordinary loop
    model[1].reset_running_stats()
    step = optimizer(model.parameters())
    for x, y in (data() * 4)[:7]:
        step.zero_grad()
        cross_entropy(model(x), y).backward()
        step.step()
    assert torch.allclose(parts[0].member(0)(x), model.eval()(x), atol=1e-5)


def test_members_differ_and_their_mean_is_the_answer():
    part = trained(chunk=3)[0]
    x = data()[1][0]
    outputs = part.predict_all(x).detach()
    assert outputs.shape == (3, 12, 3)
    assert bool((outputs.std(0) > 0).all())
    assert torch.equal(part(x), outputs.mean(0))
    assert torch.equal(part.round(x), (outputs.mean(0) > 0).long())
    assert torch.allclose(part.member(1)(x), outputs[1], atol=1e-6)


def test_dropout_differs_by_member_and_frozen_weights_stay():
    model = nn.Sequential(nn.Linear(5, 6), nn.Dropout(0.5), nn.Linear(6, 3))
    model[0].weight.requires_grad_(False)
    copies = Ensemble([model] * 4).train()
    assert len(copies.predict_all(torch.ones(1, 5)).flatten(1).unique(dim=0)) > 1
    copies.eval()
    assert len(copies.predict_all(torch.ones(1, 5)).flatten(1).unique(dim=0)) == 1
    settings = {"members": 2, "steps": 3}
    part = next(train_ensemble(lambda: model, data(), cross_entropy, lambda p: torch.optim.SGD(p, 0.1), **settings))
    assert torch.equal(part.member(1)[0].weight, model[0].weight)
    assert not torch.equal(part.member(1)[2].weight, model[2].weight)


def test_an_ensemble_is_a_module_like_others():
    part = trained(chunk=3)[0]
    x = data()[0][0]
    expected = part(x)
    assert torch.equal(copy.deepcopy(part)(x), expected)
    file = io.BytesIO()
    torch.save(part.state_dict(), file)
    file.seek(0)
    fresh = Ensemble([build() for _ in range(3)]).eval()
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh(x), expected)
    file = io.BytesIO()
    torch.save(part, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), expected)
    assert part.double()(x.double()).dtype == torch.float64


def test_refusals():
    with pytest.raises(ValueError, match="at least 1"):
        trained(members=0)
    with pytest.raises(ValueError, match="no batches"):
        list(train_ensemble(build, [], cross_entropy, lambda p: torch.optim.SGD(p, 1.0), members=1, steps=1))
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        trained(optimizer=lambda p: torch.optim.SGD(p, float("inf")))
    with pytest.raises(ValueError, match="at least one network"):
        Ensemble([])
