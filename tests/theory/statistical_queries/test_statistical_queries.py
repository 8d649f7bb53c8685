"""Query bounds against known numbers, subsets against brute force, gradient signals against autograd by hand."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from neurarium.data import cyclic_shifts, degree_counts, degree_parity, subset_parity
from neurarium.theory import (
    correlation_matrix,
    csq_lower_bound,
    gradient_signal,
    largest_uncorrelated_subset,
    solve_parity,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_known_bounds():
    assert csq_lower_bound(1000, 0.1, 0.0) == pytest.approx(5)
    assert csq_lower_bound(2**20, 2**-8, 0.0) == pytest.approx(8)
    assert csq_lower_bound(1000, 0.1, 0.01) == 0
    assert csq_lower_bound(1000, 0.1, 0.5) == 0


def test_correlations_of_parities_by_their_truth():
    """f, −f and f + g of orthonormal f, g correlate by −1 and 1/√2."""
    f, g = subset_parity(6, [0, 1]), subset_parity(6, [2, 3])
    x = f.sample(200_000, seeded())
    report = correlation_matrix([f, lambda x: -3 * f(x), lambda x: f(x) + g(x), g], x)
    expected = torch.tensor([[1, -1, 0.5**0.5, 0], [-1, 1, -(0.5**0.5), 0], [0.5**0.5, -(0.5**0.5), 1, 0.5**0.5]])
    assert ((report.matrix[:3] - expected).abs() < 5 * report.error[:3] + 1e-9).all()
    torch.testing.assert_close(report.norms, torch.tensor([1, 3, 2**0.5, 1]).double(), atol=0.02, rtol=0)
    assert report.largest == pytest.approx(1)
    assert report.dimension(0.1) == report.dimension(0.1, exact=True) == 2
    assert "4 functions" in report.summary()


def test_standard_errors_are_those_of_repeated_samples():
    f, g = subset_parity(4, [0, 1]), subset_parity(4, [2, 3])
    runs = [correlation_matrix([f, g], f.sample(500, seeded(s))) for s in range(300)]
    spread = torch.stack([run.matrix[0, 1] for run in runs]).std()
    assert float(spread) == pytest.approx(float(runs[0].error[0, 1]), rel=0.25)


def test_orbits_of_a_cyclic_group_are_uncorrelated():
    shifts = cyclic_shifts(8)
    subsets = map(list, itertools.combinations(range(8), 4))
    orbits = {min(tuple(sorted(row)) for row in shifts[:, s].tolist()) for s in subsets}
    targets = [subset_parity(8, s, shifts) for s in sorted(orbits)]
    report = correlation_matrix(targets, targets[0].sample(20_000, seeded()))
    assert len(targets) == 10
    assert report.largest < 5 * float(report.error.max())
    assert report.dimension(0.1) == 10
    assert report.queries(0.5) > csq_lower_bound(10, 0.5, 0.05)
    assert report.queries(1e-6) == 0


@pytest.mark.parametrize("seed", range(5))
def test_largest_subset_by_brute_force(seed):
    draw = torch.rand(9, 9, generator=seeded(seed))
    matrix = (draw + draw.T) / 2
    best = max(
        (s for r in range(10) for s in itertools.combinations(range(9), r)
         if all(matrix[i, j] <= 0.5 for i, j in itertools.combinations(s, 2))),
        key=len,
    )  # fmt: skip
    exact = largest_uncorrelated_subset(matrix, 0.5, exact=True)
    greedy = largest_uncorrelated_subset(matrix, 0.5)
    assert len(exact) == len(best)
    assert len(greedy) <= len(exact)
    for found in (exact, greedy):
        assert all(matrix[i, j] <= 0.5 for i, j in itertools.combinations(found, 2))


def test_gradient_signal_of_a_linear_model_is_known():
    """For squared loss and a linear model at 0 the gradient is −2 E x f(x): 2 e_i for the target x_i."""
    model = nn.Linear(4, 1, bias=False)
    nn.init.zeros_(model.weight)
    functions = [lambda x, i=i: x[:, i] for i in range(4)]
    found = gradient_signal(model, mse_loss, functions, torch.randn(400_000, 4, generator=seeded()))
    assert found.variance == pytest.approx(4, rel=0.02)  # 4 (4 − 1) / (4 − 1)
    assert found.squared_norm == pytest.approx(4 * 4 / 16, rel=0.05)
    assert model.weight.grad is None
    assert "4 targets" in found.summary()


def test_gradient_signal_falls_with_the_size_of_the_subset():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1))
    signals = []
    for k in (1, 2, 4):
        targets = [subset_parity(8, s) for s in list(itertools.combinations(range(8), k))[:8]]
        signals.append(gradient_signal(model, mse_loss, targets, torch.randn(60_000, 8, generator=seeded())).variance)
    assert signals[0] > 3 * signals[1] > 9 * signals[2]


def test_elimination_finds_the_subset():
    target = degree_parity([0, 2, 3, 7, 9], 12)
    graphs = target.sample(40, seeded())
    bits, odd = degree_counts(graphs, 12), (target(graphs) < 0).long()
    assert solve_parity(bits, odd).nonzero().flatten().tolist() == [0, 2, 3, 7, 9]


def test_elimination_says_where_there_is_no_parity():
    bits = torch.tensor([[1, 0], [0, 1], [1, 1]])
    assert solve_parity(bits, torch.tensor([1, 1, 1])) is None
    assert solve_parity(bits, torch.tensor([1, 1, 0])).tolist() == [True, True]
    assert solve_parity(bits[:1], torch.tensor([1])).tolist() == [True, False]


@pytest.mark.untyped
def test_matrix_that_is_not_square():
    with pytest.raises(ValueError, match="must be square"):
        largest_uncorrelated_subset(torch.zeros(2, 3), 0.1)


def test_refusals():
    with pytest.raises(ValueError, match="at least one"):
        correlation_matrix([], torch.zeros(3, 2))
    with pytest.raises(ValueError, match="function 1 is zero"):
        correlation_matrix([lambda x: x[:, 0], lambda x: 0 * x[:, 0]], torch.ones(3, 2))
    with pytest.raises(ValueError, match="must not be negative"):
        csq_lower_bound(-1, 0.1)
    with pytest.raises(ValueError, match="two functions and four inputs"):
        gradient_signal(nn.Linear(1, 1), mse_loss, [lambda x: x], torch.zeros(9, 1))
