"""Networks as trees: known numbers of leaves, brute force over patterns, derivatives, and the network itself."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from neurarium.probes import Polyhedron, decision_tree, local_affine
from neurarium.probes.regions import _grow_tree
from neurarium.probes.regions._cells import HalfSpaces


def mlp(*sizes, activation=nn.ReLU, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(*[m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), activation())][:-1])


def draw(domain, count=2000):
    low, high = domain.bounds
    x = low + (high - low) * torch.rand(count, len(low), generator=torch.Generator().manual_seed(1)).double()
    return x.reshape(count, *domain.shape)


@pytest.mark.parametrize(("units", "leaves"), [(3, 7), (5, 16)])
def test_lines_in_general_position_cut_the_plane_into_a_known_number_of_cells(units, leaves):
    tree = decision_tree(mlp(2, units, 1), Polyhedron.everything(2))
    assert len(tree.leaves) == leaves == sum(math.comb(units, i) for i in range(3))
    assert tree.naive == 2**units
    assert tree.programmes <= tree.tests


@pytest.mark.parametrize("folds", [1, 3, 5])
def test_tents_fold_the_interval(folds):
    layers = []
    for _ in range(folds):
        first, second = nn.Linear(1, 2), nn.Linear(2, 1)
        with torch.no_grad():
            first.weight[:], first.bias[:] = torch.ones(2, 1), torch.tensor([0, -0.5])
            second.weight[:], second.bias[:] = torch.tensor([[2.0, -4.0]]), 0
        layers += [first, nn.ReLU(), second]
    tree = decision_tree(nn.Sequential(*layers), (0.0, 1.0))
    slopes = torch.tensor([float(leaf.matrix) for leaf in tree.leaves])
    assert sorted(slopes.tolist()) == [-(2.0**folds)] * 2 ** (folds - 1) + [2.0**folds] * 2 ** (folds - 1)


def test_the_published_tree_of_a_square_comes_back():
    splits = torch.tensor([-1.1638, 0.1121, 0.3232, 0.9987])
    model = nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 1))
    with torch.no_grad():
        model[0].weight[:], model[0].bias[:] = 1, -splits
        model[2].weight[:] = torch.tensor([[0.7, 0.9, 1.1, 1.3]])
    tree = decision_tree(model, (-2.5, 2.5))
    assert len(tree.leaves) == 5
    torch.testing.assert_close((-tree.shifts / tree.normals[:, 0]).sort().values, splits.double(), atol=1e-6, rtol=0)


def test_leaves_are_the_networks_derivative_and_fill_the_box():
    model = mlp(2, 6, 5, 3).double()
    tree = decision_tree(model, (-1.0, 2.0))
    area = 0.0
    for leaf in tree.leaves:
        x = leaf.inside
        torch.testing.assert_close(leaf.matrix, torch.func.jacrev(model)(x), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(leaf.matrix @ x + leaf.offset, model(x).detach(), rtol=1e-9, atol=1e-12)
        corners = leaf.polyhedron.polygon()
        following = corners.roll(-1, 0)
        area += float((corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]).sum()) / 2
    assert area == pytest.approx(9, abs=1e-9)


def test_leaves_are_the_patterns_that_brute_force_finds(monkeypatch):
    model = mlp(2, 3, 3, 1).double()
    box = Polyhedron.box([-2.0, -2.0], [2.0, 2.0])
    found = set()
    first, second = model[0], model[2]
    with torch.no_grad():
        for pattern in itertools.product((0.0, 1.0), repeat=6):
            on = torch.tensor(pattern).double()
            inner = second.weight @ torch.diag(on[:3])
            rows = torch.cat([first.weight, inner @ first.weight])
            ends = torch.cat([first.bias, inner @ first.bias + second.bias])
            sign = 1 - 2 * on
            if box.cut(sign[:, None] * rows, -sign * ends).centre() is not None:
                found.add(pattern)

    def pattern(x):
        z = first(x)
        return tuple(torch.cat([z > 0, second(z.relu()) > 0]).double().tolist())

    clipped = decision_tree(model, (-2.0, 2.0))
    assert clipped.programmes == 0
    assert {pattern(leaf.inside) for leaf in clipped.leaves} == found
    assert len(clipped.leaves) == len(found)
    monkeypatch.setattr(_grow_tree, "cell_of", HalfSpaces)
    solved = decision_tree(model, (-2.0, 2.0))
    assert {pattern(leaf.inside) for leaf in solved.leaves} == found
    assert len(solved.leaves) == len(found)
    assert 0 < solved.programmes <= 2 * solved.tests


def test_no_pattern_of_a_grid_is_missing():
    model = mlp(2, 8, 8, 1).double()
    tree = decision_tree(model, (-1.0, 1.0))
    grid = torch.cartesian_prod(*[torch.linspace(-0.999, 0.999, 80).double()] * 2)
    gradient = torch.func.vmap(torch.func.grad(lambda x: model(x)[0]))(grid).detach()
    maps = torch.stack([leaf.matrix[0] for leaf in tree.leaves])
    assert float((gradient[:, None] - maps).norm(dim=2).amin(1).max()) < 1e-12


class Skips(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(2, 4), nn.Linear(4, 4), nn.Linear(9, 3)
        self.norm = nn.BatchNorm1d(4)
        self.norm.running_mean.uniform_(-1, 1)
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x, labels=None):
        h = functional.leaky_relu(self.first(x), 0.3)
        h = h + functional.hardtanh(self.norm(self.second(h)))
        top = h.view(x.size(0), 2, 2).max(2)[0]
        parts = [h, torch.maximum(x, 0.3 - x), abs(top), torch.clamp(h[:, :1], min=0.1)]
        return {"logits": self.out(torch.cat(parts, 1))}


def convolutional():
    return nn.Sequential(
        nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.PReLU(2), nn.MaxPool2d((1, 2), 1), nn.Flatten(), nn.Dropout(),
        nn.Linear(2, 1), nn.ReLU6(), nn.Linear(1, 2),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "domain"),
    [
        (Skips, Polyhedron.box([-2.0, -1.0], [1.0, 2.0])),
        (convolutional, Polyhedron.box(torch.zeros(1, 2, 3), torch.ones(1, 2, 3))),
        (lambda: mlp(3, 4, 3, 2, activation=nn.Hardshrink), Polyhedron.box([-1.0] * 3, [1.0] * 3)),
        (lambda: nn.Sequential(mlp(2, 4), nn.Unflatten(1, (1, 4)), nn.AdaptiveMaxPool1d(3), nn.AvgPool1d(2, 1)),
         Polyhedron.box([-1.0] * 2, [1.0] * 2)),
    ],
)  # fmt: skip
def test_tree_and_network_are_one_function(make, domain):
    torch.manual_seed(0)
    model = make()
    tree = decision_tree(model, domain)
    assert len(tree.leaves) > 3
    x = draw(domain)
    assert tree.verify(x) < 1e-9
    output = model.eval().double()(x)
    output = output["logits"] if isinstance(output, dict) else output
    torch.testing.assert_close(tree.predict(x), output.detach().flatten(1), rtol=0, atol=1e-9)
    classes = decision_tree(model, domain, decisions="argmax")
    assert classes.verify(x) == 0
    assert (classes.predict(x) == output.flatten(1).argmax(1)).all()


def test_one_output_decides_by_its_sign():
    model = mlp(2, 5, 1)
    tree = decision_tree(model, (-1.0, 1.0), decisions="argmax")
    x = draw(tree.domain)
    assert (tree.predict(x) == (model.double()(x)[:, 0] > 0)).all()
    for pair in tree.children.tolist():
        classes = {tree.leaves[~place].decision for place in pair if place < 0}
        assert len(classes) == sum(place < 0 for place in pair)  # no rule that changes nothing
    cells = torch.stack([leaf.polyhedron.contains(x, 0) for leaf in tree.leaves])
    assert (cells.float().argmax(0) == tree.leaf_of(x)).all()


def test_a_cut_domain():
    triangle = Polyhedron.box([0.0, 0.0], [1.0, 1.0]).cut(torch.tensor([[1.0, 1.0]]), torch.tensor([1.0]))
    model = mlp(2, 6, 1)
    tree = decision_tree(model, triangle)
    x = draw(triangle)
    assert tree.verify(x[triangle.contains(x)]) < 1e-12
    with pytest.raises(ValueError, match="outside the domain"):
        tree.predict(x)


def test_local_maps_are_those_of_the_tree():
    model = mlp(2, 6, 6, 2)
    tree = decision_tree(model, (-1.0, 1.0))
    x = draw(tree.domain, 40)
    found = local_affine(model, x)
    leaf = tree.leaf_of(x)
    torch.testing.assert_close(found.matrix, torch.stack([t.matrix for t in tree.leaves])[leaf], rtol=0, atol=1e-12)
    torch.testing.assert_close(found.outputs, model.double()(x).detach(), rtol=0, atol=1e-12)
    assert found.distinct == len(leaf.unique())
    inner = int(torch.tensor([len(found.irredundant(i).offsets) for i in range(5)]).min())
    assert inner >= 2
    whole = found.cells[0].cut(tree.domain.normals, tree.domain.offsets)
    corners = tree.leaves[int(leaf[0])].polyhedron.polygon()
    assert len(tree.rules(x[0]).offsets) == len(corners) == len(whole.irredundant())
    step = found.cells[0].normals[found.cells[0].slack(x[:1])[0].argmin()] * float(found.margin[0])
    near, far = (local_affine(model, x[:1] + share * step) for share in (0.999, 1.001))
    torch.testing.assert_close(near.matrix, found.matrix[:1])
    assert float((far.matrix - found.matrix[:1]).abs().max()) > 1e-6


def test_lines_for_a_smooth_activation():
    model = mlp(1, 3, 1, activation=nn.Tanh)
    errors = []
    for pieces in (4, 8, 16):
        tree = decision_tree(model, (-2.0, 2.0), pieces=pieces, limits=(-4.0, 4.0))
        errors.append(tree.verify(draw(tree.domain)))
        assert errors[-1] <= tree.interpolation_error * float(model[2].weight.abs().sum()) + 1e-12
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_costs_are_those_of_the_papers_table():
    torch.manual_seed(3)
    square = mlp(1, 2, 2, 1, activation=lambda: nn.LeakyReLU(0.3))
    cost = decision_tree(square, (-2.5, 2.5)).cost()
    assert (cost.network_parameters, cost.network_comparisons, cost.network_multiply_adds) == (13, 4, 16)
    assert cost.multiply_adds == 2
    model = mlp(2, 2, 2, 1)
    with torch.no_grad():
        model[4].bias -= model(torch.randn(999, 2)).median()
    moons = decision_tree(model, (-2.0, 2.0), decisions="argmax")
    cost = moons.cost()
    assert (cost.network_parameters, cost.network_comparisons, cost.network_multiply_adds) == (15, 5, 20)
    assert cost.parameters == 3 * len(moons.shifts)
    depths = moons.depths().double()
    assert cost.comparisons == pytest.approx(float(depths.mean()))
    assert cost.multiply_adds == pytest.approx(2 * cost.comparisons)
    assert 1 <= moons.cost(draw(moons.domain)).comparisons <= float(depths.max())


def test_text_says_what_the_tree_does():
    model = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
    with torch.no_grad():
        model[0].weight[:], model[0].bias[:] = 2, -1
    assert decision_tree(model, (0.0, 1.0)).to_text() == "if -1 x +0.5 >= 0:\n  0\nelse:\n  2 x -1"


class Product(nn.Module):
    def forward(self, x):
        return x * x.flip(1)


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def frozen_nan():
    model = mlp(2, 3, 1)
    with torch.no_grad():
        model[0].bias[0] = torch.nan
    return model


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: nn.Sequential(mlp(2, 3), nn.GELU()), r"layer '1' is GELU, which has no finite tree; pass pieces="),
        (lambda: nn.Sequential(nn.Linear(2, 4), nn.LayerNorm(4)), "layer '1' is LayerNorm, which is not piecewise"),
        (lambda: nn.Sequential(nn.Linear(2, 4), Product()), "mul' is mul, which is not piecewise linear"),
        (lambda: nn.Sequential(nn.Linear(2, 4), nn.Softmax(1)), "layer '1' is Softmax, which is not piecewise"),
        (lambda: nn.Sequential(nn.Linear(2, 4), Branching()), "cannot be traced"),
        (frozen_nan, "0.bias holds numbers that are not finite"),
    ],
)  # fmt: skip
def test_what_is_no_tree_is_refused_by_name(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        decision_tree(make(), (-1.0, 1.0))


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match=r"max_leaves=3.*local_affine"):
        decision_tree(mlp(2, 8, 8, 1), (-1.0, 1.0), max_leaves=3)
    with pytest.raises(ValueError, match="two corners"):
        decision_tree(convolutional(), (-1.0, 1.0))
    with pytest.raises(ValueError, match="low must be below high"):
        decision_tree(mlp(2, 3, 1), (1.0, -1.0))
    with pytest.raises(ValueError, match="no interior"):
        decision_tree(mlp(2, 3, 1), Polyhedron.box([0.0, 0.0], [1.0, 1.0]).cut(torch.ones(1, 2), torch.zeros(1)))


def test_drawings():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    trees = [decision_tree(mlp(d, 3, 1), (-1.0, 1.0)) for d in (1, 2, 3)]
    for result in (*trees, decision_tree(mlp(2, 3, 2), (-1.0, 1.0), decisions="argmax"),
                   local_affine(mlp(2, 3, 1), torch.randn(9, 2))):  # fmt: skip
        figure, ax = pyplot.subplots()
        assert result.plot(ax) is ax
        figure.canvas.draw()
        pyplot.close(figure)
        assert len(result.summary()) > 40
