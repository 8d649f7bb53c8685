"""Annealed gradient noise against its distribution, its schedule and its limits."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.learning import GradientNoise
from neurarium.models import plain_mlp


def flat_parameter(size=100_000):
    parameter = nn.Parameter(torch.zeros(size, dtype=torch.float64))
    parameter.grad = torch.zeros_like(parameter)
    return parameter


def test_schedule_is_a_variance_that_falls_with_the_power_of_the_step():
    noise = GradientNoise(eta=0.3)
    assert noise.sigma(0) ** 2 == pytest.approx(0.3)
    assert noise.sigma(99) ** 2 == pytest.approx(0.3 * 0.07943, rel=1e-4)
    assert GradientNoise(eta=0.3, gamma=0.0).sigma(99) ** 2 == pytest.approx(0.3)


def test_walk_of_a_parameter_without_data_gradient_has_the_summed_variance():
    parameter = flat_parameter()
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    GradientNoise(eta=1.0, generator=torch.Generator().manual_seed(0)).attach(optimizer)
    for _ in range(100):
        parameter.grad.zero_()
        optimizer.step()
    assert sum((1 + t) ** -0.55 for t in range(100)) == pytest.approx(16.0127, abs=1e-4)
    assert float(parameter.detach().std()) == pytest.approx(0.1 * 4.0016, rel=0.01)


def test_noise_is_standard_normal_and_independent():
    noise = GradientNoise(eta=0.5, generator=torch.Generator().manual_seed(1))
    noise.step = 7
    parts = [nn.Parameter(torch.zeros(50, 100)), nn.Parameter(torch.zeros(5000))]
    for part in parts:
        part.grad = torch.full_like(part, 2.0)
    noise(parts)
    a, b = ((part.grad.flatten() - 2.0).double().numpy() / noise.sigma(7) for part in parts)
    assert stats.kstest(np.concatenate([a, b]), "norm").pvalue > 0.01
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / math.sqrt(len(a))
    assert abs(np.corrcoef(a[:-1], a[1:])[0, 1]) < 4 / math.sqrt(len(a))


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, 0.1),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
        lambda p: torch.optim.Adam(p, 1e-2),
    ],
)
def test_without_variance_training_is_the_same_to_the_last_bit(make):
    model = plain_mlp(6, 3, width=8, depth=2, generator=torch.Generator().manual_seed(0))
    twin = copy.deepcopy(model)
    x, y = torch.randn(20, 6), torch.randint(3, (20,))
    for network, noised in ((model, True), (twin, False)):
        optimizer = make(network.parameters())
        if noised:
            GradientNoise(eta=0.0).attach(optimizer)
        for _ in range(10):
            optimizer.zero_grad()
            cross_entropy(network(x), y).backward()
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_from_all_zeros_only_the_output_bias_has_a_gradient():
    model = plain_mlp(6, 3, depth=4, init="zero")
    cross_entropy(model(torch.randn(30, 6)), torch.randint(3, (30,))).backward()
    *others, (_, bias) = model.named_parameters()
    assert all(float(p.grad.abs().max()) == 0.0 for _, p in others)
    assert float(bias.grad.abs().max()) > 0


def test_clip_orders():
    kept = {}
    for order in ("after_clip", "before_clip"):
        parameter = flat_parameter(1000)
        parameter.grad.fill_(1.0)
        GradientNoise(eta=100.0, max_norm=1.0, order=order, generator=torch.Generator().manual_seed(0))([parameter])
        kept[order] = float(parameter.grad.norm())
    assert kept["before_clip"] == pytest.approx(1.0, rel=1e-3)
    assert kept["after_clip"] == pytest.approx(10 * math.sqrt(1000), rel=0.1)


def test_clipping_is_torchs():
    a, b = flat_parameter(50), flat_parameter(50)
    for p in (a, b):
        p.grad.copy_(torch.arange(50.0))
    GradientNoise(eta=0.0, max_norm=3.0)([a])
    nn.utils.clip_grad_norm_([b], 3.0)
    assert torch.allclose(a.grad, b.grad)


def test_steps_are_counted_per_optimizer_step_and_survive_a_checkpoint():
    parameter = flat_parameter(10)
    noise = GradientNoise(generator=torch.Generator().manual_seed(3))
    noise([parameter])
    state = noise.state_dict()
    parameter.grad.zero_()
    noise([parameter])
    resumed = GradientNoise(generator=torch.Generator())
    resumed.load_state_dict(state)
    other = flat_parameter(10)
    resumed([other])
    assert resumed.step == noise.step == 2
    assert torch.equal(parameter.grad, other.grad)


def test_groups_switches_and_missing_gradients():
    loud, quiet, without = flat_parameter(1000), flat_parameter(1000), nn.Parameter(torch.zeros(3))
    groups = [{"params": [loud, without]}, {"params": [quiet], "noise_eta": 0.0}]
    optimizer = torch.optim.SGD(groups, 0.1)
    GradientNoise(eta=1.0, active=lambda step: step < 1).attach(optimizer)
    optimizer.step()
    assert float(loud.grad.std()) > 0.5
    assert float(quiet.grad.abs().max()) == 0.0
    assert without.grad is None
    loud.grad.zero_()
    optimizer.step()
    assert float(loud.grad.abs().max()) == 0.0


def test_a_removed_handle_ends_the_noise():
    parameter = flat_parameter(10)
    optimizer = torch.optim.SGD([parameter], 0.1)
    handle = GradientNoise(eta=0.7).attach(optimizer)
    with pytest.raises(ValueError, match=r"already adds gradient noise \(eta=0.7\)"):
        GradientNoise().attach(optimizer)
    handle.remove()
    optimizer.step()
    assert float(parameter.grad.abs().max()) == 0.0
    GradientNoise().attach(optimizer)


@pytest.mark.untyped
def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="must not be negative"):
        GradientNoise(eta=-1.0)
    with pytest.raises(ValueError, match="max_norm must be positive"):
        GradientNoise(max_norm=0.0)
    with pytest.raises(ValueError, match="order must be"):
        GradientNoise(order="sideways")
    with pytest.raises(TypeError, match="line search"):
        GradientNoise().attach(torch.optim.LBFGS([flat_parameter(3)]))
    embedding = nn.Embedding(5, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match="sparse=False"):
        GradientNoise()(embedding.parameters())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_named_and_spoils_no_other(value):
    sound, broken = flat_parameter(4), flat_parameter(3)
    sound.grad.fill_(2.0)
    broken.grad[0] = value
    with pytest.warns(UserWarning, match=rf"norm is {value} at step 0 \(gradient 1, of shape \(3,\)\)"):
        GradientNoise(eta=0.0, max_norm=1.0)([sound, broken])
    assert sound.grad.tolist() == [2.0] * 4
    assert broken.grad[1:].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("init", ["simple", "he", "sussillo"])
def test_initial_deviations(init):
    weight = plain_mlp(400, 3, width=400, depth=1, init=init)[0].weight
    gain = math.sqrt(2) * math.exp(1.2 / (400 - 2.4))
    expected = {"simple": 0.1, "he": math.sqrt(2 / 400), "sussillo": gain / 20}[init]
    assert float(weight.detach().std()) == pytest.approx(expected, rel=0.01)
    with pytest.raises(ValueError, match="init must be"):
        plain_mlp(2, 2, init="random")
