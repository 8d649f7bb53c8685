"""KAN against pykan 0.2.8 (numbers made once with it), and pruning and formulas against what must come out."""

import copy
import math

import pytest
import torch
from torch import nn

from neurarium.compression import KANPruning
from neurarium.layers import KANLinear
from neurarium.models import KAN, EdgeFunction, formula, snap, suggest, train_kan
from neurarium.objectives import edge_sparsity
from neurarium.probes import edge_scores


def wave(*shape: int) -> torch.Tensor:
    return torch.sin(torch.arange(torch.Size(shape).numel(), dtype=torch.float64) * 1.7 + 0.3).reshape(shape)


def given() -> tuple[KAN, torch.Tensor, torch.Tensor]:
    """A network of known weights, 200 points of a known sequence, and a function."""
    model = KAN([2, 3, 1], grid_size=4, dtype=torch.float64)
    for layer in model.layers:
        layer.coefficients.data = 0.1 * wave(*layer.coefficients.shape)
        layer.base_weight.data = 0.5 * wave(*layer.base_weight.shape)
        layer.scale.data.fill_(layer.in_features**-0.5)
    k = torch.arange(1, 201, dtype=torch.float64)
    x = torch.stack([(k * 0.7548776662466927) % 1, (k * 0.5698402909980532) % 1], 1) * 2 - 1
    return model, x, target(x)


def target(x: torch.Tensor) -> torch.Tensor:
    return torch.exp(torch.sin(math.pi * x[:, :1]) + x[:, 1:] ** 2)


def test_outputs_penalty_scores_and_losses_are_pykans() -> None:
    model, x, y = given()
    outputs = [-0.1306304529938775, -0.06919628532989007, -0.10335687603816852]
    torch.testing.assert_close(model(x)[:3, 0], torch.tensor(outputs, dtype=torch.float64), rtol=1e-12, atol=0)
    assert float(edge_sparsity(model, x).detach()) == pytest.approx(7.077897881291303, rel=1e-12)
    scores = edge_scores(model, x)
    assert scores.nodes[0].tolist() == pytest.approx([1.3024296586892956, 1.8840427458078532], rel=1e-12)
    assert scores.edges[0][2].tolist() == pytest.approx([0.4674164248603737, 0.3963860179562332], rel=1e-12)
    losses = train_kan(model, x, y, 8, update_grid=False)
    assert losses[:4] == pytest.approx([5.748830838933, 0.006326806998, 0.001671251423, 0.00103473935], abs=1e-11)
    assert losses[4:] == pytest.approx([0.000458685113, 0.000271090714, 0.000142958284, 8.0271943e-05], rel=0.1)


@pytest.mark.parametrize("scale", ["std", "l1"])
def test_the_penalty_and_its_gradient_are_those_of_expanded_edges(scale: str) -> None:
    model, x, _ = given()
    expected = 0.0
    values = model.trace(x)
    for layer, inputs in zip(model.layers, values[:-1], strict=True):
        edges = layer.edges(inputs)
        if scale == "std":
            s = edges.std(0) / (inputs.std(0) + 0.1)
            rows, columns = s / (s.sum(1, keepdim=True) + 1), s / (s.sum(0, keepdim=True) + 1)
            entropy = -(rows * torch.log2(rows + 1e-4)).sum(1).mean()
            entropy = entropy - (columns * torch.log2(columns + 1e-4)).sum(0).mean()
        else:
            s = edges.abs().mean(0)
            entropy = torch.distributions.Categorical(s.flatten()).entropy()
        expected = expected + s.sum() + 2 * entropy
    ours = edge_sparsity(model, x, scale=scale)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(
        torch.autograd.grad(ours, tuple(model.parameters())), torch.autograd.grad(expected, tuple(model.parameters()))
    )


def test_a_network_without_edges_has_no_sparsity() -> None:
    with pytest.raises(ValueError, match="no Kolmogorov-Arnold layer"):
        edge_sparsity(nn.Linear(2, 2), torch.zeros(3, 2))
    with pytest.raises(TypeError, match="reads a KAN"):
        edge_scores(nn.Linear(2, 2), torch.zeros(3, 2))


def test_product_nodes_multiply_pairs() -> None:
    model = KAN([3, 2, 1], [0, 2, 0], dtype=torch.float64)
    x = torch.randn(5, 3, dtype=torch.float64)
    sums = model.layers[0](x)
    hidden = torch.stack([sums[:, 0], sums[:, 1], sums[:, 2] * sums[:, 3], sums[:, 4] * sums[:, 5]], 1)
    torch.testing.assert_close(model(x), model.layers[1](hidden))
    assert model.widths == (3, 2, 1)
    torch.testing.assert_close(model(x.view(5, 1, 3)), model(x)[:, None])


def test_refining_keeps_the_function_and_training_goes_on() -> None:
    model, x, y = given()
    losses = train_kan(model, x, y, 5)
    before = model(x)
    model.refine(12)
    torch.testing.assert_close(model(x), before, atol=1e-8, rtol=1e-8)
    assert train_kan(model, x, y, 5)[-1] < losses[-1] / 2


def test_grid_updates_bring_every_input_inside() -> None:
    model, x, _ = given()
    x = 3 * x
    assert model.update_grid(x) > 0.2
    assert model.update_grid(x) < 0.02


@pytest.fixture(scope="module")
def trained() -> tuple[KAN, torch.Tensor, torch.Tensor]:
    return start(0)


def start(seed: int) -> tuple[KAN, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    x = torch.rand(600, 2, dtype=torch.float64) * 2 - 1
    model = KAN([2, 5, 1], dtype=torch.float64)
    train_kan(model, x, target(x), 12, sparsity=0.01)
    return model, x, target(x)


def test_pruning_folds_means_and_leaves_a_path(trained) -> None:
    model, x, y = trained
    before = copy.deepcopy(model.state_dict())
    pruned = KANPruning(0.1, 0.1).compress(model, [(x[:300], y[:300]), (x[300:], y[300:])])
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    assert pruned.widths[1] < 5
    error = (pruned(x) - model(x)).square().mean().sqrt()
    assert error < 0.1
    torch.testing.assert_close(pruned(x).mean(), model(x).mean(), atol=0.02, rtol=0)  # without folding: off by .3 to 1
    for thresholds in ((10.0, 10.0), (0.0, 10.0)):
        least = KANPruning(*thresholds).compress(model, [(x, y)])
        assert all(layer.mask.any(1).all() for layer in least.layers)
        assert torch.isfinite(least(x)).all()
        train_kan(least, x, y, 1)  # pykan #269: dead after pruning
    with pytest.raises(TypeError, match="works on a KAN"):
        KANPruning().compress(nn.Linear(2, 1), [(x, y)])


def test_pruning_product_nodes() -> None:
    torch.manual_seed(0)
    model = KAN([2, 1, 1], [0, 2, 0], dtype=torch.float64)
    with torch.no_grad():
        model.layers[1].coefficients[:, 1:] *= 1e-6
        model.layers[1].base_weight[:, 1:] *= 1e-6
    x = torch.rand(200, 2, dtype=torch.float64)
    pruned = KANPruning(0.01, 0.0).compress(model, [(x, x)])
    assert pruned.products == (0, 0, 0)
    assert pruned.widths == (2, 1, 1)
    torch.testing.assert_close(pruned(x), model(x), atol=1e-5, rtol=1e-5)


def test_a_formula_comes_out() -> None:
    for seed in (1, 2, 0, 3):  # the last bits of the machine decide which start finds it
        model, x, y = start(seed)
        pruned = KANPruning(0.1, 0.1).compress(model, [(x, y)])
        train_kan(pruned, x, y, 8)
        snapped = snap(pruned, x)
        train_kan(snapped, x, y, 15, update_grid=False)
        error = (snapped(x) - y).square().mean().sqrt()
        if error < 1e-6:
            break
    assert error < 1e-6
    found = formula(snapped, ["a", "b"], x, digits=6)
    assert found.error[0] < 1e-4
    assert "a" in str(found)
    assert "b" in found.latex()[0]
    torch.testing.assert_close(found(x), y, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(snapped.layers[0](x), snapped.layers[0].edges(x).sum(2) + snapped.layers[0].numeric.bias)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("x", lambda x: 3 * x - 1), ("x^2", lambda x: (x - 0.3) ** 2), ("exp", lambda x: torch.exp(2 * x)),
        ("log", lambda x: torch.log(x + 1.5)), ("1/x", lambda x: 1 / (x + 1.4)), ("sqrt", lambda x: (x + 1.1).sqrt()),
        ("tanh", lambda x: torch.tanh(4 * x)), ("abs", lambda x: (x + 0.2).abs()),
        ("gaussian", lambda x: torch.exp(-9 * x**2)),
    ],
)  # fmt: skip
def test_a_curve_finds_its_name(name: str, make) -> None:
    """And none becomes NaN or divides by zero (pykan #89, #286, #480)."""
    model = KAN([1, 1], grid_size=60, base_activation=None, dtype=torch.float64)
    x = torch.linspace(-1, 1, 300, dtype=torch.float64)[:, None]
    train_kan(model, x, make(x), 10)
    found = suggest(model, x, 0, 0, 0)
    assert found[0].name == name
    assert found[0].r2 > 0.999
    assert all(math.isfinite(value) for s in found for value in (s.r2, s.cost, s.a, s.b, s.c, s.d))


def test_edges_can_be_given_a_name_or_a_function_of_your_own() -> None:
    model = KAN([2, 1], dtype=torch.float64)
    x = torch.rand(100, 2, dtype=torch.float64)
    own = {"bessel": EdgeFunction(torch.special.bessel_j0, lambda s, u: s.besselj(0, u), 3)}
    assert snap(model, x, own).layers[0].functions == [["bessel", "bessel"]]
    assert snap(model, x, choices={(0, 0, 1): "tanh"}).layers[0].functions[0][1] == "tanh"
    with pytest.raises(ValueError, match=r"nearest are .*tanh"):
        snap(model, x, choices={(0, 0, 1): "tahn"})
    with pytest.raises(ValueError, match="live edges"):
        snap(model, x, choices={(0, 3, 1): "tanh"})
    with pytest.raises(ValueError, match="layer 0: 0 -> 0; layer 0: 1 -> 0"):
        formula(model)


def test_an_edge_that_does_not_vary_becomes_a_constant() -> None:
    model = KAN([2, 1], base_activation=None, dtype=torch.float64)
    with torch.no_grad():
        model.layers[0].coefficients[0, 1] = 2.0
        model.layers[0].scale.fill_(1.0)
    x = torch.rand(50, 2, dtype=torch.float64)
    snapped = snap(model, x)
    assert float(snapped.layers[0].affine[3, 0, 1].detach()) == pytest.approx(2)
    assert "x_2" not in str(formula(snapped))


def test_widths_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="widths"):
        KAN([3])
    with pytest.raises(ValueError, match="products"):
        KAN([3, 2, 1], [1, 0, 0])
    assert isinstance(KAN([3, 1]).layers[0], KANLinear)


def test_pictures_are_drawn(trained) -> None:
    from matplotlib.figure import Figure

    model, x, _ = trained
    scores = edge_scores(model, x)
    assert scores.plot(Figure().subplots()).lines
    assert "2-5-1" in scores.summary()
