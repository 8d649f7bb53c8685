"""KANLinear: limiting cases, grid updates that keep the function, exact edge statistics, and users' complaints."""

import copy
import io

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import linear, silu

from neurarium.layers import BSplineBasis, KANLinear
from neurarium.layers.kan._grid import extend


def made(*sizes: int, **options) -> KANLinear:
    layer = KANLinear(*sizes, dtype=torch.float64, **options)
    with torch.no_grad():
        layer.coefficients.normal_()
    return layer


def spline_part(layer: KANLinear, x: torch.Tensor) -> torch.Tensor:
    return layer(x) - linear(silu(x), layer.base_weight)


def test_parameters_are_counted_as_published() -> None:
    layer = KANLinear(5, 7, grid_size=4, degree=2)
    assert sum(p.numel() for p in layer.parameters()) == 5 * 7 * (4 + 2 + 2)


def test_without_coefficients_it_is_silu_and_a_linear_map() -> None:
    layer = KANLinear(5, 7, bias=True)
    with torch.no_grad():
        layer.coefficients.zero_()
        layer.bias.normal_()
    x = torch.randn(3, 4, 5)
    torch.testing.assert_close(layer(x), linear(silu(x), layer.base_weight, layer.bias))


def test_degree_0_is_piecewise_constant() -> None:
    layer = made(1, 1, grid_size=4, degree=0, base_activation=None, scale=False)
    x = torch.tensor([[-0.9], [-0.6], [-0.4], [0.2], [0.9]], dtype=torch.float64)
    torch.testing.assert_close(layer(x).flatten(), layer.coefficients.flatten()[[0, 0, 1, 2, 3]])


def test_a_cubic_polynomial_is_fitted_exactly() -> None:
    layer = made(1, 1, base_activation=None, scale=False)
    x = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]
    y = 2 - x + 0.5 * x**2 - 3 * x**3
    columns = layer.basis(x).squeeze(1)
    with torch.no_grad():
        layer.coefficients[0, 0] = torch.linalg.lstsq(columns, y).solution.flatten()
    torch.testing.assert_close(layer(x), y, rtol=0, atol=1e-10)


def test_initial_curves_go_through_small_noise_at_the_grids_points() -> None:
    layer = KANLinear(3, 4, grid_size=6, dtype=torch.float64)
    at_points = torch.einsum("pim,oim->oip", layer.basis(layer.basis.grid.t()), layer.coefficients.detach())
    assert float(at_points.abs().max()) <= 0.5 * 0.3 / 6 + 1e-9
    assert float(layer.scale.detach().unique()) == pytest.approx(3**-0.5)
    assert float(layer.base_weight.detach().abs().max()) <= 3**-0.5


@pytest.mark.parametrize("factor", [2, 4])
def test_refining_to_a_multiple_changes_nothing(factor: int) -> None:
    layer = made(3, 2)
    x = torch.randn(500, 3, dtype=torch.float64) * 1.5  # outside the grid too
    before = layer(x)
    layer.refine(5 * factor)
    assert layer.coefficients.shape == (2, 3, 5 * factor + 3)
    torch.testing.assert_close(layer(x), before, rtol=0, atol=1e-10)


def test_a_grid_update_is_the_least_squares_fit_on_the_new_knots() -> None:
    """efficient-kan applies its spline scale twice here, which moves its output by 134 %."""
    layer = made(3, 2)
    with torch.no_grad():
        layer.scale.uniform_(0.2, 3)
    x = torch.randn(800, 3, dtype=torch.float64) * 0.7
    old_columns, old = layer.basis(x), copy.deepcopy(layer)
    assert layer.update_grid(x) == pytest.approx(float((x.abs() > 1).double().mean()))
    assert not torch.allclose(layer.basis.knots, old.basis.knots)
    assert layer.outside(x) == 0
    for i in range(3):
        wanted = old_columns[:, i] @ old.coefficients[:, i].t()
        columns = layer.basis(x)[:, i]
        best = columns @ torch.from_numpy(np.linalg.lstsq(columns.numpy(), wanted.detach().numpy(), rcond=None)[0])
        torch.testing.assert_close(columns @ layer.coefficients[:, i].t(), best, rtol=0, atol=1e-6)
    moved = (spline_part(layer, x) - spline_part(old, x)).std() / spline_part(old, x).std()
    assert moved < 0.35  # knots at quantiles; random splines are the hardest case


def test_knots_that_contain_the_old_ones_move_nothing() -> None:
    layer = made(2, 3)
    x = torch.rand(700, 2, dtype=torch.float64) * 2 - 1
    before = layer(x)
    points = torch.linspace(-1, 1, 16, dtype=torch.float64).repeat(2, 1)
    layer._refit(extend(points, 3), x, torch.tensor([True, True]))
    torch.testing.assert_close(layer(x), before, rtol=0, atol=1e-8)


def test_constant_columns_keep_their_curves_and_nothing_becomes_nan() -> None:
    """pykan #218, #314: NaN after a grid update."""
    layer = made(4, 3)
    x = torch.randn(300, 4, dtype=torch.float64)
    x[:, 1] = 0.25
    x[:, 2] = (x[:, 2] > 0).double()  # two values only
    x[:, 3] = 1e8 * x[:, 3]
    before = layer.edges(x)[:, :, 1]
    layer.update_grid(x)
    torch.testing.assert_close(layer.edges(x)[:, :, 1], before)
    for _ in range(3):
        layer.update_grid(x)
    layer(x).square().sum().backward()
    assert all(torch.isfinite(p).all() and torch.isfinite(p.grad).all() for p in layer.parameters())


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_few_samples_are_allowed(rows: int) -> None:
    layer = made(2, 3, grid_size=20)
    x = torch.rand(rows, 2, dtype=torch.float64) - 0.5
    before = layer(x)
    layer.update_grid(x)
    torch.testing.assert_close(layer(x), before, atol=1e-5, rtol=1e-5)


def test_single_precision_is_refitted_in_double() -> None:
    layer = KANLinear(3, 2)
    x = torch.randn(600, 3)
    layer.update_grid(x)
    before = layer(x)
    layer.refine(50)
    torch.testing.assert_close(layer(x), before, atol=2e-5, rtol=1e-4)


def test_edge_statistics_are_those_of_the_edges(monkeypatch) -> None:
    from neurarium.layers.kan import _basis_product

    layer = made(4, 3)
    with torch.no_grad():
        layer.mask[1, 2] = False
    x = (torch.randn(90, 4, dtype=torch.float64) * 0.6).requires_grad_()
    for block in (2**17, 90 * 9):  # all inputs at once, one at a time
        monkeypatch.setattr(_basis_product, "BLOCK", block)
        edges = layer.edges(x)
        torch.testing.assert_close(layer.edge_mean(x), edges.mean(0))
        torch.testing.assert_close(layer.edge_size(x), edges.abs().mean(0))
        alive = layer.mask
        torch.testing.assert_close(layer.edge_std(x), edges.std(0), rtol=1e-10, atol=1e-12)
        wanted = (x, layer.coefficients, layer.base_weight, layer.scale)
        ours = torch.autograd.grad(layer.edge_std(x)[alive].square().sum(), wanted)
        theirs = torch.autograd.grad(edges.std(0)[alive].square().sum(), wanted)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b)
    dead = torch.autograd.grad(layer.edge_std(x).sum(), layer.coefficients)[0]
    assert torch.isfinite(dead).all()
    assert not dead[1, 2].any()


def test_edges_add_up_to_the_output() -> None:
    layer = made(4, 3)
    x = torch.randn(9, 4, dtype=torch.float64)
    torch.testing.assert_close(layer.edges(x).sum(2), layer(x))


def test_a_row_alone_and_in_a_batch_are_equal() -> None:
    layer = made(6, 4)
    x = torch.randn(300, 6, dtype=torch.float64)
    torch.testing.assert_close(torch.stack([layer(row) for row in x]), layer(x))


def test_more_dimensions_than_two() -> None:
    """pykan #204: two-dimensional inputs only."""
    layer = made(6, 4)
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(layer(x), layer(x.flatten(0, 2)).view(2, 3, 5, 4))
    layer.update_grid(x)


def test_the_global_random_state_is_left_alone_when_a_generator_is_given(tmp_path, monkeypatch) -> None:
    """pykan seeds everything and writes checkpoints when a model is made."""
    monkeypatch.chdir(tmp_path)
    state = torch.get_rng_state()
    first = KANLinear(3, 3, generator=torch.Generator().manual_seed(1))
    second = KANLinear(3, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.coefficients, second.coefficients)
    assert list(tmp_path.iterdir()) == []


def test_a_refined_checkpoint_loads_into_a_fresh_layer() -> None:
    saved = KANLinear(3, 2, grid_size=5)
    saved.update_grid(torch.randn(200, 3))
    saved.refine(12)
    file = io.BytesIO()
    torch.save(saved.state_dict(), file)
    file.seek(0)
    fresh = KANLinear(3, 2, grid_size=5)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    x = torch.randn(20, 3)
    assert torch.equal(fresh(x), saved(x))
    assert not fresh.basis.equal_intervals


def test_it_drops_into_a_network_and_learns() -> None:
    x = torch.rand(256, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    y = torch.sin(3 * x[:, :1]) * x[:, 1:]
    model = nn.Sequential(KANLinear(2, 5), nn.LayerNorm(5), KANLinear(5, 1))
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(200):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
    assert float(loss) < 0.01


def test_what_cannot_be_is_refused() -> None:
    layer = KANLinear(3, 2)
    x = torch.randn(10, 3)
    x[4, 1] = torch.nan
    with pytest.raises(ValueError, match="input 1 is not"):
        layer.update_grid(x)
    with pytest.raises(ValueError, match="at least the present 5"):
        layer.refine(4)
    with pytest.raises(TypeError, match="no grid"):
        KANLinear(3, 2, basis="fourier", grid_size=5).refine(10)
    with pytest.raises(ValueError, match="3 inputs"):
        layer(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="bspline"):
        KANLinear(3, 2, basis="spline")
    with pytest.raises(ValueError, match="base_activation"):
        KANLinear(3, 2, base_activation="relu")
    assert isinstance(layer.basis, BSplineBasis)
