"""Homology against known sets, Euler's formula, brute-force persistence, and gudhi and ripser where installed."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from neurarium.data import DataError, annuli, discs, nested
from neurarium.probes import (
    Betti,
    betti_numbers,
    decision_region_homology,
    grid_persistence,
    plane_slice,
    point_cloud_homology,
)
from neurarium.probes.topology._betti import euler_characteristic
from neurarium.probes.topology._rips import rips_bars

LINE = torch.linspace(-1, 1, 241, dtype=torch.float64)
X, Y = torch.meshgrid(LINE, LINE, indexing="ij")
RADIUS = (X**2 + Y**2).sqrt()


def ring(radius, low, high):
    return (radius >= low) & (radius <= high)


def test_known_sets():
    assert betti_numbers(RADIUS <= 0.5).numbers == (1, 0)
    assert betti_numbers(ring(RADIUS, 0.3, 0.6)).numbers == (1, 1)
    assert betti_numbers(ring(RADIUS, 0.4, 0.6) | (RADIUS <= 0.2)).numbers == (2, 1)
    three = [ring(((X - a) ** 2 + (Y - b) ** 2).sqrt(), 0.1, 0.2) for a, b in ((-0.6, 0), (0, 0.5), (0.6, -0.6))]
    assert betti_numbers(three[0] | three[1] | three[2]).numbers == (3, 3)
    i, j = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    assert betti_numbers((i + j) % 2 == 0).numbers == (1, 18)
    i, j = torch.meshgrid(torch.arange(9), torch.arange(9), indexing="ij")
    assert betti_numbers((i + j) % 2 == 0).numbers == (1, 24)
    assert betti_numbers(torch.sin(3 * torch.pi * X) * torch.sin(3 * torch.pi * Y) > 1e-12).numbers == (18, 0)
    assert betti_numbers(torch.zeros(4, 4, dtype=torch.bool)).numbers == (0, 0)
    assert betti_numbers(torch.ones(4, 4, dtype=torch.bool)).numbers == (1, 0)  # what is outside is not in the set
    assert betti_numbers(torch.tensor([True, False, True])).numbers == (2,)


def test_known_solids():
    line = torch.linspace(-1, 1, 41)
    x, y, z = torch.meshgrid(line, line, line, indexing="ij")
    radius = (x**2 + y**2 + z**2).sqrt()
    torus = ((x**2 + y**2).sqrt() - 0.6) ** 2 + z**2
    assert betti_numbers(radius < 0.7).numbers == (1, 0, 0)
    assert betti_numbers(ring(radius, 0.5, 0.8)).numbers == (1, 0, 1)
    assert betti_numbers(torus < 0.06).numbers == (1, 1, 0)
    assert betti_numbers(ring(torus, 0.02, 0.09)).numbers == (1, 2, 1)


def test_eulers_formula_on_random_masks():
    draw = np.random.default_rng(0)
    for _ in range(200):
        mask = draw.random((32, 32)) < draw.random()
        pixels = {(i, j) for i, j in zip(*np.nonzero(mask))}
        corners = {(i + a, j + b) for i, j in pixels for a, b in itertools.product((0, 1), repeat=2)}
        edges = {(i + a, j, 1) for i, j in pixels for a in (0, 1)} | {(i, j + b, 0) for i, j in pixels for b in (0, 1)}
        found = betti_numbers(mask)
        assert found.b0 - found.b1 == len(corners) - len(edges) + len(pixels) == euler_characteristic(mask)


def test_persistence_counts_the_parts_and_holes_of_every_level():
    values = torch.randn(30, 24, generator=torch.Generator().manual_seed(0)).double()
    values[:5, :5] = 0.25  # ties
    bars = grid_persistence(values)
    for level in (-2.0, -0.5, 0.0, 0.25, 0.9, 2.0):
        assert bars.alive(level) == betti_numbers(values >= level).numbers
    assert not bars.diagrams[0][:, 1].isfinite().all()


def test_persistence_of_two_peaks():
    height = 3 * torch.exp(-20 * ((X - 0.5) ** 2 + Y**2)) + 2 * torch.exp(-20 * ((X + 0.5) ** 2 + Y**2))
    bars = grid_persistence(height)
    assert bars.count(0, 0.1) == 2
    torch.testing.assert_close(bars.diagrams[0][1, 0], height[60, 120], atol=0.01, rtol=0)
    assert bars.alive(1.0, threshold=0.5) == (2, 0)
    assert bars.alive(1.0, threshold=1.5) == (1, 0)  # the lower peak stands 1 above the level


class Circle(nn.Module):
    def forward(self, x):
        return x.square().sum(1, keepdim=True) - 0.25


def test_decision_regions():
    found = decision_region_homology(Circle(), (-1, 1))
    assert found.betti.numbers == (1, 1)
    assert found.converged
    assert not found.empty
    assert found.persistence.alive() == (1, 1)
    two = decision_region_homology(lambda x: torch.cat([x[:, :1], -x[:, :1] + 0.1, x[:, :1] - 5], 1), (-1, 1), target=1)
    assert two.betti.numbers == (1, 0)
    ball = decision_region_homology(Circle(), [(-1, 1)] * 3, resolution=15)
    assert ball.betti.numbers == (1, 0, 1)
    line = decision_region_homology(Circle(), [(-1, 1)])
    assert line.betti.numbers == (2,)
    assert decision_region_homology(lambda x: x[:, :1] - 9, (-1, 1)).empty


def test_refinement_asks_only_near_the_border():
    asked = []

    def narrow(x):
        asked.append(len(x))
        return 0.05 - (x[:, 0] - 0.3 * torch.sin(3 * x[:, 1])).abs()

    found = decision_region_homology(narrow, (-1, 1), resolution=33, min_size=1)
    assert found.betti.numbers == (1, 0)
    assert found.converged
    assert found.evaluations == sum(asked) < found.resolution**2 / 2


def test_small_parts_are_dropped_and_told():
    def speck(x):
        return torch.maximum(0.25 - x.square().sum(1), 0.001 - (x - 0.75).square().sum(1))

    assert decision_region_homology(speck, (-1, 1), min_size=1).betti.numbers == (2, 0)
    found = decision_region_homology(speck, (-1, 1), min_size=20)
    assert (found.betti.numbers, found.dropped) == ((1, 0), 1)


@pytest.mark.parametrize("units", [1, 2])
def test_one_or_two_units_have_no_hole_and_at_most_two_parts(units):
    for seed in range(40):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(2, units), nn.ReLU(), nn.Linear(units, 1)).double()
        with torch.no_grad():
            grid = net(torch.stack([X, Y], 2)[::4, ::4].reshape(-1, 2)).reshape(61, 61)
        found = betti_numbers(grid >= 0)
        assert found.b0 <= 2
        assert found.b1 == 0


@pytest.mark.parametrize(
    "shapes",
    [discs(1), discs(9), discs(5, spread="random"), annuli(4), nested(1), nested(4), annuli(3, spread="random")],
)
def test_shapes_have_the_homology_that_they_say(shapes):
    found = decision_region_homology(lambda x: 2.0 * shapes.contains(x) - 1, (-1, 1), resolution=129)
    assert found.betti.numbers == shapes.betti
    data = shapes.sample(500, seed=1)
    assert (shapes.contains(data.x).long() == data.y).all()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="no gap"):
        discs(16, fill=0.95)
    with pytest.raises(DataError, match="do not fit"):
        discs(9, fill=0.99, gap=0.2, spread="random")
    with pytest.raises(DataError, match="hole"):
        annuli(2, hole=1.0)


def brute_force_loops(distance):
    """The textbook: reduce the boundary matrix of all triangles over all edges."""
    count = len(distance)
    edges = sorted(itertools.combinations(range(count), 2), key=lambda e: distance[e])
    place = {edge: i for i, edge in enumerate(edges)}
    faces = [sorted(place[e] for e in itertools.combinations(t, 2)) for t in itertools.combinations(range(count), 3)]
    columns, bars = {}, []
    for column in sorted(faces, key=lambda f: f[::-1]):
        death, left = column[-1], set(column)
        while left and (low := max(left)) in columns:
            left ^= columns[low]
        if left:
            columns[max(left)] = left
            bars.append((distance[edges[max(left)]], distance[edges[death]]))
    return sorted(bar for bar in bars if bar[1] > bar[0])


@pytest.mark.parametrize(("count", "dimensions"), [(14, 2), (22, 2), (22, 3), (20, 6)])
def test_loops_against_reducing_the_whole_matrix(count, dimensions):
    points = np.random.default_rng(count).normal(size=(count, dimensions))
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    parts, loops = rips_bars(distance)
    np.testing.assert_allclose(sorted(map(tuple, loops)), brute_force_loops(distance) or np.zeros((0,)), atol=1e-12)
    assert len(parts) == count


def test_a_lattice_of_equal_distances():
    points = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), 2).reshape(-1, 2)
    _, loops = rips_bars(np.linalg.norm(points[:, None] - points[None], axis=2))
    np.testing.assert_allclose(loops, [[1, np.sqrt(2)]] * 16)


def test_points_on_circles():
    turn = 2 * torch.pi * torch.rand(300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    circle = torch.stack([turn.cos(), turn.sin()], 1)
    found = point_cloud_homology(circle)
    assert found.persistence.count(1, 1.2) == 1
    assert found.betti.numbers == (1, 1)
    two = torch.cat([circle, circle + torch.tensor([6.0, 0.0])])
    found = point_cloud_homology(two, max_points=200)
    assert found.betti.numbers == (2, 2)
    assert found.points == 200
    drawn = point_cloud_homology(circle, rule="bootstrap", generator=torch.Generator().manual_seed(0))
    assert drawn.betti.numbers == (1, 1)


def test_peers():
    gudhi, ripser = pytest.importorskip("gudhi"), pytest.importorskip("ripser")
    mask = np.random.default_rng(0).random((40, 40)) < 0.5
    peer = gudhi.CubicalComplex(top_dimensional_cells=np.where(mask, 0.0, 1.0))
    peer.compute_persistence()
    assert tuple(peer.persistent_betti_numbers(0.0, 0.5)[:2]) == betti_numbers(mask).numbers
    points = np.random.default_rng(1).normal(size=(150, 3))
    wanted = ripser.ripser(points, maxdim=1)["dgms"][1]
    found = rips_bars(np.linalg.norm(points[:, None] - points[None], axis=2))[1]
    np.testing.assert_allclose(sorted(map(tuple, found)), sorted(map(tuple, wanted)), atol=1e-5)


def test_a_plane_through_three_examples():
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 2)).double()
    points = torch.randn(3, 1, 3, 3, generator=torch.Generator().manual_seed(0)).double()
    plane = plane_slice(model, points)
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0]]).double()
    torch.testing.assert_close(plane(corners), model(points[:2]))
    a, b = (t.flatten() for t in (plane.across, plane.up))
    assert abs(float(a @ b)) < 1e-9
    torch.testing.assert_close(a.norm(), b.norm())
    third = (points[2] - points[0]).flatten()
    torch.testing.assert_close(plane(torch.stack([third @ a, third @ b])[None] / (a @ a)), model(points[2:]))
    with pytest.raises(ValueError, match="on a line"):
        plane_slice(model, points[[0, 1, 1]])


def test_errors_of_numbers():
    assert Betti((3, 1)).error(Betti((4, 0))) == (0.25, 1.0)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: decision_region_homology(Circle(), [(-1, 1)] * 4), "plane_slice"),
        (lambda: decision_region_homology(nn.Linear(2, 3), (-1, 1)), "target must name one of the model's 3"),
        (lambda: decision_region_homology(lambda x: x[:, 0] / 0, (-1, 1)), "NaN"),
        (lambda: decision_region_homology(Circle(), (1, -1)), "each low below"),
        (lambda: betti_numbers(np.zeros((2, 2, 2, 2), bool)), "1 to 3 dimensions"),
        (lambda: grid_persistence(torch.tensor([[0.0, torch.nan]])), "finite"),
        (lambda: point_cloud_homology(torch.zeros(0, 2)), "at least one"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_results_can_be_drawn():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    points = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    region = decision_region_homology(Circle(), (-1, 1), resolution=17)
    for result in (
        region, region.betti, region.persistence, point_cloud_homology(points),
        decision_region_homology(Circle(), [(-1, 1)] * 3, resolution=9), decision_region_homology(Circle(), [(-1, 1)]),
    ):  # fmt: skip
        figure, ax = pyplot.subplots()
        assert result.plot(ax) is ax
        figure.canvas.draw()
        pyplot.close(figure)
        assert len(result.summary()) > 10
