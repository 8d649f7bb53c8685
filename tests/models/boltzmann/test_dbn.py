"""Deep belief networks: their layers are machines, their conversions the same numbers, their start a better one."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import prune

from neurarium.data import Batches, load
from neurarium.layers import sparsify
from neurarium.learning import Backprop
from neurarium.models import DeepBeliefNetwork, ImportanceEstimate, free_energy_gap, pretrain_layers
from neurarium.training import fit


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def digits():
    return load("digits").flat().map_inputs(lambda x: x.float() / x.float().max())


@pytest.fixture(scope="module")
def trained(digits):
    network = DeepBeliefNetwork((64, 48, 32), generator=seeded())
    return network.pretrain(Batches(digits.train, 100, shuffle=True), epochs=8, learning_rate=0.3, generator=seeded())


def test_the_classifiers_hidden_layers_are_the_machines(trained, digits):
    x = digits.test.x[:20]
    model = trained.to_classifier(10)
    v = x
    for machine in trained.machines:
        v = torch.sigmoid(v @ machine.weights.weight.T + machine.weights.bias)
    torch.testing.assert_close(model[:-1](x), v)
    torch.testing.assert_close(trained(x), v)
    assert model[1].weight is trained.machines[0].weights.weight


def test_the_autoencoder_goes_up_and_down_again(trained, digits):
    x = digits.test.x[:200]
    model = trained.to_autoencoder()
    h = trained(x)
    for machine in reversed(trained.machines):
        h = machine.visible_means(h)
    torch.testing.assert_close(model(x), h)
    error, usual = (model(x) - x).square().mean(), (x - x.mean(0)).square().mean()
    assert error < 0.5 * usual


def test_samples_look_more_like_digits_than_independent_pixels_do(trained, digits):
    samples = trained.sample(100, steps=50, generator=seeded())
    independent = torch.bernoulli(digits.train.x.mean(0).expand(100, -1), generator=seeded())
    nearest = [torch.cdist(s, digits.train.x).amin(1).mean() for s in (samples, independent)]
    assert nearest[0] < 0.7 * nearest[1]
    assert torch.equal(samples, trained.sample(100, steps=50, generator=seeded()))


def test_labels_are_classified_and_steer_samples(digits):
    network = DeepBeliefNetwork((64, 60, 80), num_labels=10, generator=seeded())
    network.pretrain(Batches(digits.train, 100, shuffle=True), epochs=10, learning_rate=0.3, generator=seeded())
    accuracy = float((network.classify(digits.test.x).argmax(1) == digits.test.y).double().mean())
    assert accuracy > 0.8
    wanted = torch.arange(100) % 10
    samples = network.sample(100, steps=50, labels=wanted, generator=seeded())
    near = digits.train.y[torch.cdist(samples, digits.train.x).argmin(1)]
    assert float((near == wanted).double().mean()) > 0.6
    with pytest.raises(ValueError, match="label units"):
        network.to_classifier(10)


def test_a_users_deep_sigmoid_network_learns_sooner_from_its_machines(digits):
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Linear(64, 64), nn.Sigmoid(), nn.Linear(64, 64), nn.Sigmoid(), nn.Linear(64, 64), nn.Sigmoid(),
        nn.Linear(64, 10),
    )  # fmt: skip
    started = copy.deepcopy(plain)
    loader = Batches(digits.train, 100, shuffle=True)
    found = pretrain_layers(started, loader, epochs=4, learning_rate=0.3, generator=seeded())
    assert list(found) == ["0", "2", "4"]
    assert all(machine.weights is started[int(name)] for name, machine in found.items())
    losses = []
    for model in (plain, started):
        rule = Backprop(model, cross_entropy)
        losses.append(fit(rule, loader, torch.optim.Adam(rule.parameters(), 1e-2), epochs=2)[-1])
    assert losses[1] < 0.8 * losses[0]


def test_pretraining_keeps_a_sparse_pattern_and_refuses_what_it_cannot_train(digits):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 40), nn.Sigmoid(), nn.Linear(40, 10))
    sparse = sparsify(copy.deepcopy(model), 1.0).model
    with torch.no_grad():
        dense = sparse[0]
    pretrain_layers(sparse, [digits.train.x[:50]], epochs=1, generator=seeded())
    assert type(dense).__name__ == "SparseLinear"
    prune.random_unstructured(model[0], "weight", 0.5)
    with pytest.raises(ValueError, match="other parameters"):
        pretrain_layers(model, [digits.train.x[:50]], epochs=1)
    with pytest.raises(ValueError, match="nothing to pre-train"):
        pretrain_layers(nn.Sequential(nn.Linear(64, 4), nn.ReLU()), [digits.train.x[:50]])


def test_the_gap_of_free_energies_shows_overfitting(digits):
    few = digits.train[:40]
    network = DeepBeliefNetwork((64, 100), generator=seeded())
    network.pretrain(Batches(few, 20), epochs=1, generator=seeded())
    early = free_energy_gap(network.top, few.x, digits.test.x)
    network.pretrain(Batches(few, 40), epochs=100, learning_rate=0.3, generator=seeded())
    assert free_energy_gap(network.top, few.x, digits.test.x) > early + 3


def test_real_inputs_and_labels_in_any_loader():
    x = torch.randn(200, 12, generator=seeded()) + 2 * (torch.arange(200) % 2)[:, None]
    x = (x - x.mean(0)) / x.std(0)
    loader = [{"x": rows, "labels": torch.zeros(len(rows))} for rows in x.split(50)]
    network = DeepBeliefNetwork((12, 10, 5), visible_units="gaussian", generator=seeded())
    seen = []
    network.pretrain(loader, epochs=3, generator=seeded(), on_epoch=lambda *row: seen.append(row))
    assert [row[:2] for row in seen] == [(layer, epoch) for layer in (1, 2) for epoch in (1, 2, 3)]
    assert network.to_autoencoder()(x).shape == x.shape
    assert type(network.to_autoencoder()[-1]) is nn.Linear


def test_the_effective_number_of_chains():
    found = ImportanceEstimate(torch.tensor([0.0, 0.0, math.log(2)], dtype=torch.float64))
    assert found.effective == pytest.approx(16 / 6)  # (1 + 1 + 2)^2 / (1 + 1 + 4)
    assert found.log_mean == pytest.approx(math.log(4 / 3))
