"""Probes, penalties and losses of this family on a second device: nothing stays behind; the numbers are the CPU's."""

import copy

import pytest
import torch
from torch import nn

from neurarium.learning import retrain_classifier
from neurarium.objectives import (
    LDAM,
    DeferredReweighting,
    FeatureDecay,
    FeatureLoss,
    LogitAdjustment,
    NeuralCollapseRegularizer,
    Rotations,
    SelfSupervisedLabelAugmentation,
    widen_classifier,
)
from neurarium.probes import class_distance_normalized_variance, few_shot_accuracy, neural_collapse
from neurarium.testing import second_device
from neurarium.theory import collapse_geometry

NAME = second_device.register()
X, Y = torch.randn(24, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 3


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))


def both(compute):
    """The same computation on the CPU and on the device."""
    model = network()
    other = copy.deepcopy(model).to(NAME)
    return compute(model, X, Y), compute(other, X.to(NAME), Y.to(NAME))


PROBES = {
    "collapse": lambda m, x, y: neural_collapse(m, [(x, y)], target=collapse_geometry((8, 8, 8), 0.01, 0.01)).nc3,
    "simplex": lambda m, x, y: neural_collapse(m, [(x, y)]).min_angle,
    "variance": lambda m, x, y: class_distance_normalized_variance(m, [(x, y)], unbiased=True).average,
    "few-shot": lambda m, x, y: few_shot_accuracy(
        m, [(x, y)], ways=3, queries=4, episodes=20, generator=torch.Generator().manual_seed(0)
    ).accuracy,
}  # fmt: skip


@pytest.mark.parametrize("name", PROBES)
def test_probes(name):
    here, there = both(PROBES[name])
    assert here == pytest.approx(there, abs=1e-6)


LOSSES = {
    "ldam": lambda: LDAM((20, 10, 5)),
    "adjusted": lambda: LogitAdjustment((20, 10, 5)),
    "deferred": lambda: DeferredReweighting((20, 10, 5), 0),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name):
    here, there = both(lambda m, x, y: float(LOSSES[name]().to(x.device)(m(x), y).detach()))
    assert here == pytest.approx(there, abs=1e-6)


def penalised(model, x, y):
    penalty = NeuralCollapseRegularizer(3, 8, generator=torch.Generator().manual_seed(0)).to(x.device)
    decay = FeatureDecay(0.1, 24)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    penalty.attach(optimizer)
    with FeatureLoss(model, nn.functional.cross_entropy, lambda h, t: penalty(h, t) + decay(h)) as loss:
        loss(model(x), y).backward()
    optimizer.step()
    return float(penalty.angles().sum())


def augmented(model, x, y):
    sla = SelfSupervisedLabelAugmentation(Rotations(), 3, mode="sla+sd")
    wide = widen_classifier(model, sla)
    views, joint = sla.augment_batch(x, y)
    sla(wide(views), joint).backward()
    return float(sla.predict(wide, x, "aggregate").sum().detach())


@pytest.mark.parametrize("compute", [penalised, augmented])
def test_training(compute):
    here, there = both(compute)
    assert here == pytest.approx(there, rel=1e-5)


def test_retraining_stays_on_the_device():
    model = network().to(NAME)
    retrain_classifier(model, [(X.to(NAME), Y.to(NAME))], epochs=2)
    assert {p.device.type for p in model.parameters()} == {NAME}
