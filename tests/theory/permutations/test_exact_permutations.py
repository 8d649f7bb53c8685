"""The law of networks trained on unit vectors: two computations, brute force, limits, and trained networks."""

import itertools
import math

import pytest
import torch
from scipy.stats import norm

from neurarium.data import PermutationTask
from neurarium.models import NTKMLP
from neurarium.theory import (
    asymptotic_output_law,
    permutation_output_law,
    relu_dual,
    relu_dual_derivative,
    required_ensemble_size,
    trained_network_law,
)
from neurarium.training import RunningMean, train_ensemble


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def row(k, ones):
    """An input of unit length and the unit vectors."""
    x = torch.zeros(1, k, dtype=torch.float64)
    x[0, :ones] = 1 / math.sqrt(ones)
    return x, torch.eye(k, dtype=torch.float64)


@pytest.mark.parametrize(
    ("k", "ones", "on", "off", "variance"),
    [
        (5, 2, 0.560632, -0.0146398, 0.0132347),
        (10, 5, 0.283730, -0.0407122, 0.0125048),
        (30, 2, None, -0.00426674, 0.00213969),
    ],
)
def test_known_laws(k, ones, on, off, variance):
    law = permutation_output_law(k, ones)
    assert on is None or law.on_mean == pytest.approx(on, abs=1e-6)
    assert law.off_mean == pytest.approx(off, abs=5e-8)
    assert law.variance == pytest.approx(variance, abs=5e-8)


@pytest.mark.parametrize("time", [0.0, 0.7, 5.0, math.inf])
@pytest.mark.parametrize(("k", "ones"), [(2, 2), (5, 2), (7, 7), (10, 1), (12, 5)])
def test_closed_form_is_the_solution_of_the_whole_system(k, ones, time):
    x, units = row(k, ones)
    found = trained_network_law(units, units, x, scale=1 / (2 * k), time=time)
    law = permutation_output_law(k, ones, time)
    expected = [law.on_mean] * ones + [law.off_mean] * (k - ones)
    assert found.mean[0].tolist() == pytest.approx(expected, abs=1e-12)
    assert float(found.variance) == pytest.approx(law.variance, abs=1e-12)


def test_training_inputs_are_interpolated_and_the_start_is_the_prior():
    law = permutation_output_law(9, 1)
    assert (law.on_mean, law.off_mean, law.variance) == pytest.approx((1, 0, 0), abs=1e-14)
    start = permutation_output_law(9, 3, time=0)
    assert (start.on_mean, start.off_mean, start.variance) == pytest.approx((0, 0, 1 / 18), abs=1e-14)


def test_signs_are_right_for_every_input():
    for k in (2, 3, 8, 40, 300):
        for ones in range(2, k + 1):
            law = permutation_output_law(k, ones)
            assert law.on_mean > 0 > law.off_mean
            assert law.off_mean <= permutation_output_law(k, 2).off_mean or ones == 2  # two ones are the hardest


def test_permuting_inputs_and_outputs_changes_nothing():
    task = PermutationTask.draw(6, draw())
    data, bits = task.train(), task.inputs(ones=3)
    found = trained_network_law(data.x, data.y, task.scaled(bits))
    assert bool(((found.mean > 0).long() == task.target(bits)).all())
    assert float(found.variance.std()) < 1e-7
    assert found.mean.sort(1).values.std(0).max() < 1e-6


def test_the_kernel_is_the_average_over_directions():
    angle = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000 * 2 * math.pi
    for c in (-0.9, 0.0, 0.3, 1.0):
        turned = torch.cos(angle - math.acos(c))
        both = (torch.cos(angle) > 0) & (turned > 0)
        expected = (2 * torch.cos(angle) * turned * both).mean()  # E r^2 = 2 for the radius
        c = torch.tensor(c, dtype=torch.float64)
        assert float(relu_dual(c)) == pytest.approx(float(expected), abs=1e-6)
        assert float(relu_dual_derivative(c)) == pytest.approx(float(both.double().mean()), abs=2e-5)


def test_sizes_of_ensembles():
    assert [required_ensemble_size(k, 0.01) for k in (8, 16, 32, 64)] == [549, 822, 1424, 2734]
    assert [required_ensemble_size(k, 0.01, "all") for k in (8, 16, 32, 64)] == [944, 1550, 2873, 5805]
    for k, known in ((5, 512), (10, 642), (30, 1362)):  # all bits as hard as those that are off
        law = permutation_output_law(k, 2)
        assert math.ceil((norm.isf(0.01 / k) / law.off_mean) ** 2 * law.variance) == pytest.approx(known, abs=1)
        assert required_ensemble_size(k, 0.01) <= known
    assert required_ensemble_size(5, 0.01, ones=1) == 1


def test_the_size_is_the_least_that_the_union_bound_allows():
    k, delta = 6, 0.05
    size = required_ensemble_size(k, delta, "all")

    def failures(n):
        total = 0.0
        for bits in itertools.product((0, 1), repeat=k):
            if (m := sum(bits)) >= 2:
                law = permutation_output_law(k, m)
                sd = math.sqrt(law.variance / n)
                total += m * norm.cdf(-law.on_mean / sd) + (k - m) * norm.cdf(law.off_mean / sd)
        return total

    assert failures(size) <= delta < failures(size - 1)


def test_many_bits():
    for ones in (2, 5):
        limit, law = asymptotic_output_law(ones), permutation_output_law(100_000, ones)
        assert (law.on_mean, 1e5 * law.off_mean, 1e5 * law.variance) == pytest.approx(
            (limit.on_mean, limit.off_mean, limit.variance), rel=1e-3
        )
    assert asymptotic_output_law(2).off_mean == pytest.approx(-0.1505, abs=5e-5)
    assert asymptotic_output_law(2).variance == pytest.approx(0.064, abs=5e-4)


def test_trained_networks_follow_the_law():
    k, members, steps = 4, 300, 30
    task = PermutationTask(torch.eye(k))
    data, x = task.train(), task.scaled(task.inputs())
    rate = k / (1 + (k - 1) / (2 * math.pi))
    parts = train_ensemble(
        lambda: NTKMLP(k, 1024, k), [(data.x, data.y)], lambda out, y: (out - y).square().sum() / 2,
        lambda p: torch.optim.SGD(p, rate), members=members, steps=steps, chunk=100,
    )  # fmt: skip
    outputs = torch.cat([part.predict_all(x).detach().clone() for part in parts]).double()
    law = trained_network_law(data.x, data.y, x, scale=1 / (2 * k))
    spread = (law.variance / members).sqrt()[:, None]
    assert bool(((outputs.mean(0) - law.mean).abs() < 3.5 * spread + 2e-3).all())
    assert torch.allclose(outputs.var(0).mean(1), law.variance.double(), rtol=0.2, atol=1e-4)
    mean = RunningMean()
    for part in outputs.split(130):
        mean.update(part)
    assert torch.allclose(mean.mean, outputs.mean(0), atol=1e-12)


def test_inputs_and_targets():
    task = PermutationTask.draw(5, draw(1))
    bits = task.inputs()
    assert len(bits.unique(dim=0)) == 31
    assert [len(task.inputs(ones=m)) for m in range(1, 6)] == [5, 10, 10, 5, 1]
    for x, y in zip(bits[:, :, None], task.target(bits), strict=True):
        assert torch.equal(task.matrix @ x.float().flatten(), y.float())
    assert torch.equal(task.train().y, task.target(torch.eye(5).long()).float())
    drawn = PermutationTask.draw(40, draw()).inputs(count=80, generator=draw(2))
    assert drawn.sum(1).tolist() == [*range(1, 41)] * 2
    assert task.scaled(bits).norm(dim=1).tolist() == pytest.approx([1] * 31)


def test_refusals():
    task = PermutationTask(torch.eye(3))
    with pytest.raises(ValueError, match="all-zero input has no direction"):
        task.scaled(torch.zeros(1, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="row 1 of the matrix"):
        PermutationTask(torch.tensor([[1.0, 0], [1, 1]]))
    with pytest.raises(ValueError, match="column 0 of the matrix"):
        PermutationTask(torch.tensor([[1.0, 0], [1, 0]]))
    with pytest.raises(ValueError, match="ones must be"):
        task.inputs(ones=4)
    with pytest.raises(ValueError, match="too many to list"):
        PermutationTask.draw(20, draw()).inputs()
    with pytest.raises(ValueError, match="k must"):
        required_ensemble_size(1, 0.1)
    with pytest.raises(ValueError, match="delta"):
        required_ensemble_size(4, 1.0)
    with pytest.raises(ValueError, match="ones must be"):
        permutation_output_law(4, 5)
    with pytest.raises(ValueError, match="singular"):
        trained_network_law(torch.eye(2)[[0, 0]], torch.eye(2), torch.eye(2))
