"""Hard families against closed forms, exact invariance, Fourier analysis, exhaustive Gram matrices and orbit counts."""

import itertools
import math

import pytest
import torch

from neurarium.data import (
    cyclic_shifts,
    degree_counts,
    degree_parity,
    invariant_polynomial,
    planar_harmonic,
    subset_parity,
)
from neurarium.data.hard_symmetric._relu_families import relu_moments, relu_network


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def reflections(n):
    """All rotations and reflections of n coordinates in a ring."""
    shifts = cyclic_shifts(n)
    return torch.cat([shifts, shifts.flip(1)])


def unscaled(target):
    """The sum of signed rectifiers itself."""
    hidden, _, out = target.network
    return lambda x: (x @ hidden.weight.T).relu() @ out.weight.sign().flatten()


def test_two_coordinates_in_closed_form():
    x = torch.randn(100, 5, generator=seeded())
    a, b = x[:, 1], x[:, 3]
    found = unscaled(subset_parity(5, [3, 1]))(x)
    torch.testing.assert_close(found, ((a + b).abs() - (a - b).abs()) / math.sqrt(2))
    torch.testing.assert_close(found, math.sqrt(2) * (a * b).sign() * torch.minimum(a.abs(), b.abs()))


def test_one_coordinate_is_linear_and_three_are_nothing():
    x = torch.randn(50, 4, generator=seeded())
    torch.testing.assert_close(subset_parity(4, [2])(x), x[:, 2])
    for k in (3, 5):
        with pytest.raises(ValueError, match="identically zero"):
            subset_parity(6, range(k))
        signs = torch.tensor(list(itertools.product((1.0, -1.0), repeat=k)))
        y = torch.randn(50, k, generator=seeded())
        assert float((signs.prod(1) * (y @ signs.T).relu()).sum(1).abs().max()) < 1e-4


@pytest.mark.parametrize(("k", "square"), [(2, 2 - 4 / math.pi), (4, 0.304), (6, 0.425)])
def test_unscaled_variance(k, square):
    """Monte-Carlo values against the closed form of the moments; and odd in each coordinate of S."""
    signs = torch.tensor(list(itertools.product((1.0, -1.0), repeat=k))).double()
    weights = signs / math.sqrt(k)
    exact = float(signs.prod(1) @ relu_moments(weights, weights) @ signs.prod(1))
    assert exact == pytest.approx(square, abs=0.01)
    target = subset_parity(8, range(k))
    x = torch.randn(20, 8, generator=seeded())
    turned = x.clone()
    turned[:, k - 1] *= -1
    torch.testing.assert_close(target(turned), -target(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "target",
    [
        subset_parity(8, [0, 1, 3, 4], cyclic_shifts(8)),
        subset_parity(8, [0, 4], cyclic_shifts(8)),  # half the shifts leave the set as it is
        planar_harmonic(4, torch.linalg.qr(torch.randn(5, 2, generator=seeded()))[0].T, cyclic_shifts(5)),
        planar_harmonic(2, torch.eye(4)[:2]),
        invariant_polynomial([2, 1, 0, 0, 3], cyclic_shifts(5)),
        invariant_polynomial([1, 1, 0, 2], reflections(4)),
    ],
    ids=lambda t: t.name,
)
def test_mean_0_variance_1_and_invariance(target):
    x = target.sample(400_000, seeded()).double()
    y = target.network.double()(x).flatten()
    assert abs(float(y.mean())) < 5 * float(y.std()) / math.sqrt(len(y))
    spread = float(y.square().std()) / math.sqrt(len(y))
    assert float(y.square().mean()) == pytest.approx(1, abs=5 * spread)
    if target.group is not None:
        for permutation in target.group:
            torch.testing.assert_close(target(x[:50, permutation]), y[:50], atol=1e-5, rtol=1e-5)


def test_relu_network_equals_the_formula():
    """The symmetrised parity, written out as |G|^(-1/2) Σ_g f_{gS} and scaled to variance 1."""
    n, subset = 6, [0, 1, 2, 4]
    target = subset_parity(n, subset, cyclic_shifts(n))
    x = torch.randn(40, n, generator=seeded())
    signs = torch.tensor(list(itertools.product((1.0, -1.0), repeat=4)))

    def parity(places):
        return (signs.prod(1) * (x[:, places] @ signs.T / 2).relu()).sum(1)

    written = sum(parity([(i + g) % n for i in subset]) for g in range(n)) / math.sqrt(n)
    weights = signs.double() / 2
    variance = float(signs.prod(1).double() @ relu_moments(weights, weights) @ signs.prod(1).double())
    torch.testing.assert_close(target(x), written / math.sqrt(variance), atol=1e-5, rtol=1e-5)


def test_different_orbits_are_orthogonal():
    n, shifts = 6, cyclic_shifts(6)
    nets = [subset_parity(n, s, shifts).network for s in ([0, 1], [0, 2], [0, 3], [0, 1, 2, 3], [0, 1, 3, 4])]
    for p, q in itertools.combinations(nets, 2):
        moments = relu_moments(p[0].weight.double(), q[0].weight.double())
        assert abs(float(p[2].weight.double()[0] @ moments @ q[2].weight.double()[0])) < 1e-6


@pytest.mark.parametrize(("n", "k", "orbits"), [(16, 4, 116), (10, 4, 22)])
def test_orbit_counts(n, k, orbits):
    """Burnside's count of necklaces."""
    shifts = cyclic_shifts(n)
    subsets = torch.combinations(torch.arange(n), k)
    images = shifts[:, subsets].sort(2)[0]  # [g, subset, k]
    codes = (images * n ** torch.arange(k)).sum(2)
    assert len(codes.amin(0).unique()) == orbits


@pytest.mark.parametrize("k", [2, 4, 6, 8])
def test_harmonics_have_no_mode_below_k(k):
    torch.set_default_dtype(torch.float64)
    angle = 2 * torch.pi * torch.arange(4608).double() / 4608  # a multiple of 2k: high modes fold onto their like
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    modes = torch.fft.rfft(planar_harmonic(k, torch.eye(2).double()).network.double()(circle).flatten()).abs() / 4608
    assert float(modes[:k].max()) < 1e-10
    assert float(modes[k]) > 1e-2
    others = torch.tensor([m % (2 * k) != k for m in range(1000)])
    assert float(modes[:1000][others].max()) < 1e-10


def test_harmonics_are_uncorrelated_with_low_degrees_and_nearly_so_with_each_other():
    u, v = (torch.linalg.qr(torch.randn(12, 2, generator=seeded(s), dtype=torch.float64))[0].T for s in (0, 1))
    first, second = (planar_harmonic(4, plane) for plane in (u, v))
    x = first.sample(1_000_000, seeded()).float()
    y = first(x)
    for power in (1, 2, 3):
        product = y * x[:, 0] ** power
        assert abs(float(product.mean())) < 3.5 * float(product.std()) / 1000
    moments = relu_moments(first.network[0].weight.double(), second.network[0].weight.double())
    correlation = first.network[2].weight.double()[0] @ moments @ second.network[2].weight.double()[0]
    assert abs(float(correlation)) <= float(torch.linalg.matrix_norm(u @ v.T, 2)) ** 4 + 1e-9


def test_hermite_polynomials_are_orthonormal():
    """By Gauss quadrature, exact for these degrees."""
    from numpy.polynomial.hermite_e import hermegauss

    nodes, weights = (torch.tensor(v) for v in hermegauss(12))
    weights = weights / weights.sum()
    x = torch.cartesian_prod(nodes, nodes, nodes)
    w = torch.cartesian_prod(weights, weights, weights).prod(1)
    exponents = [[1, 0, 0], [1, 1, 0], [2, 0, 0], [2, 1, 0], [1, 2, 0], [3, 0, 1], [1, 1, 1]]
    values = torch.stack([invariant_polynomial(e, cyclic_shifts(3))(x) for e in exponents])
    torch.testing.assert_close((values * w) @ values.T, torch.eye(7).double(), atol=1e-10, rtol=0)


def test_degree_parities_are_exactly_orthonormal():
    """All 64 parities of six stars on all 64 graphs."""
    bits = torch.cartesian_prod(*[torch.arange(2)] * 6)
    whole = degree_parity(range(6), 6)
    drawn = whole.sample(2000, seeded())
    found = degree_counts(drawn, 6)
    graphs = {tuple(row.tolist()): graph for row, graph in zip(found, drawn)}
    assert len(graphs) == 64
    stack = torch.stack([graphs[tuple(row.tolist())] for row in bits])
    subsets = [[i for i in range(6) if code >> i & 1] for code in range(64)]
    values = torch.stack([degree_parity(s, 6)(stack) for s in subsets])
    by_hand = torch.stack([(-1.0) ** bits[:, s].sum(1) for s in subsets])
    assert torch.equal(values, by_hand)
    assert torch.equal(values @ values.T, 64 * torch.eye(64))


def test_graphs_are_disjoint_stars():
    graphs = degree_parity([0], 4, nodes=30).sample(50, seeded())
    assert torch.equal(graphs, graphs.mT)
    assert graphs.shape == (50, 30, 30)
    degrees = graphs.sum(2)
    leaves = (degrees == 1).sum(1)
    assert torch.equal(leaves, (degrees * (degrees > 1)).sum(1))
    order = torch.randperm(30, generator=seeded())
    target = degree_parity([0, 2, 3], 4)
    assert torch.equal(target(graphs[:, order][:, :, order]), target(graphs))


def test_refusals():
    with pytest.raises(ValueError, match="different coordinates from 0 to 4"):
        subset_parity(5, [0, 5])
    with pytest.raises(ValueError, match="different coordinates"):
        subset_parity(5, [1, 1])
    with pytest.raises(ValueError, match="permutations of 5 coordinates"):
        subset_parity(5, [0, 1], cyclic_shifts(4))
    with pytest.raises(ValueError, match="closed under composition"):
        subset_parity(5, [0, 1], cyclic_shifts(5)[:2])
    with pytest.raises(ValueError, match="for odd k"):
        planar_harmonic(3, torch.eye(2))
    with pytest.raises(ValueError, match="orthonormal"):
        planar_harmonic(2, 2 * torch.eye(2))
    with pytest.raises(ValueError, match="different bits from 0 to 2"):
        degree_parity([3], 3)
    with pytest.raises(ValueError, match="nodes must be at least 15"):
        degree_parity([0], 3, nodes=10)
    with pytest.raises(ValueError, match="one must be positive"):
        invariant_polynomial([0, 0])
    with pytest.raises(ValueError, match="identically zero"):
        relu_network(torch.eye(2).double(), torch.zeros(2).double())
