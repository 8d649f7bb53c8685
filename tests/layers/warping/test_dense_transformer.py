"""Thin plate splines, writing to a grid, and the pair of both, against scipy, loops, transposes and limiting cases."""

import copy

import pytest
import torch
from scipy.interpolate import RBFInterpolator
from torch import nn
from torch.nn.functional import grid_sample

from neurarium.layers import (
    DenseTransformer,
    control_points,
    folding_penalty,
    insert_dense_transformer,
    splat,
    thin_plate_matrix,
)  # fmt: skip
from neurarium.layers.warping._thin_plate import map_positions
from neurarium.probes import warp_summary


@pytest.mark.parametrize("points", [(2, 2), (3, 4), (4, 4)])
def test_affine_control_points_give_the_affine_map(points):
    matrix, places = thin_plate_matrix(points, (7, 9)), map_positions((7, 9))
    torch.testing.assert_close(matrix @ control_points(points), places, rtol=0, atol=1e-5)
    turn, shift = torch.tensor([[0.8, -0.5], [0.3, 1.1]]), torch.tensor([0.2, -0.1])
    torch.testing.assert_close(
        matrix @ (control_points(points) @ turn.T + shift), places @ turn.T + shift, rtol=0, atol=1e-5
    )


def test_it_is_scipys_thin_plate_spline():
    control = control_points((3, 4)) + 0.2 * torch.randn(12, 2)
    peer = RBFInterpolator(control_points((3, 4)).numpy(), control.numpy(), kernel="thin_plate_spline", degree=1)
    expected = torch.tensor(peer(map_positions((6, 5)).numpy())).float()
    torch.testing.assert_close(thin_plate_matrix((3, 4), (6, 5)) @ control, expected, rtol=0, atol=2e-5)
    with pytest.raises(ValueError, match="two rows and two columns"):
        thin_plate_matrix((1, 4), (5, 5))


def random_grid(batch, height, width, dtype=torch.float64):
    return map_positions((height, width), dtype).view(1, height, width, 2) + 0.5 * torch.randn(
        batch, height, width, 2, dtype=dtype
    )


def test_writing_is_the_transpose_of_reading():
    u, v = (torch.randn(2, 3, 5, 6, dtype=torch.float64) for _ in range(2))
    grid = random_grid(2, 5, 6)
    restored, weight = splat(v, grid)
    summed = restored * weight
    kept = (weight > 1e-5).expand_as(u)
    read = grid_sample(u * kept, grid, padding_mode="zeros", align_corners=False)
    torch.testing.assert_close((read * v).sum(), (u * summed).sum(), rtol=0, atol=1e-9)


def test_writing_by_loops():
    values, grid = torch.randn(1, 2, 5, 5), random_grid(1, 5, 5, torch.float32)
    total, weights = torch.zeros(2, 5, 5), torch.zeros(5, 5)
    for i in range(5):
        for j in range(5):
            x, y = ((grid[0, i, j] + 1) * 5 - 1).div(2).tolist()
            for r in range(5):
                for c in range(5):
                    w = max(0.0, 1 - abs(y - r)) * max(0.0, 1 - abs(x - c))
                    total[:, r, c] += w * values[0, :, i, j]
                    weights[r, c] += w
    restored, weight = splat(values, grid, fallback=torch.full((1, 2, 5, 5), 9.0))
    torch.testing.assert_close(weight[0, 0], weights, rtol=1e-4, atol=1e-5)
    expected = torch.where(weights > 1e-5, total / weights, 9.0)
    torch.testing.assert_close(restored[0], expected, rtol=1e-3, atol=1e-4)


def test_whole_shifts_come_back_and_holes_take_the_fallback():
    x = torch.randn(1, 2, 6, 6)
    grid = map_positions((6, 6)).view(1, 6, 6, 2) + torch.tensor([2 / 3, 0.0])  # two columns to the right
    restored, weight = splat(x, grid, fallback=torch.zeros_like(x))
    torch.testing.assert_close(restored[..., 2:], x[..., :4])
    assert bool((restored[..., :2] == 0).all())
    assert bool((weight[..., 2:] - 1).abs().max() < 1e-5)
    constant, weight = splat(torch.full((1, 1, 6, 6), 3.0), random_grid(1, 6, 6, torch.float32))
    torch.testing.assert_close(constant[weight > 1e-5], torch.full_like(constant[weight > 1e-5], 3.0))


def smooth(side):
    place = map_positions((side, side)).view(side, side, 2)
    return (torch.sin(2 * place[..., 0]) * torch.cos(1.5 * place[..., 1]))[None, None]


def test_bending_and_restoring_a_smooth_map_is_nearly_nothing():
    errors = []
    for side in (16, 32):
        layer = DenseTransformer(1, (side, side))
        layer.localisation[3].bias.data = 0.1 * torch.randn(32, generator=torch.Generator().manual_seed(0))
        v, grid = layer.encode(smooth(side))
        inner = slice(side // 4, -side // 4)
        errors.append(float((layer.decode(v, grid) - smooth(side))[..., inner, inner].abs().mean()))
    assert errors[1] < errors[0] / 3


def test_gradients_in_values_grid_and_control_points():
    values, grid = torch.randn(1, 2, 4, 3, dtype=torch.float64), random_grid(1, 4, 3)
    assert torch.autograd.gradcheck(
        lambda a, b: splat(a, b, fallback=a)[0], (values.requires_grad_(), grid.requires_grad_())
    )
    layer = DenseTransformer(2, (4, 3), (2, 3)).double()
    nn.init.normal_(layer.localisation[3].weight, std=0.3)
    u = torch.randn(1, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: layer.decode(*layer.encode(a)), (u,))


def test_it_starts_as_nothing_and_each_image_gets_a_warp_of_its_own():
    layer, u = DenseTransformer(3, (6, 8)), torch.randn(4, 3, 6, 8)
    torch.testing.assert_close(
        layer(u), map_positions((6, 8)).view(1, 6, 8, 2).expand(4, -1, -1, -1), rtol=0, atol=1e-5
    )
    v, grid = layer.encode(u)
    torch.testing.assert_close(layer.decode(v, grid), u, rtol=1e-4, atol=1e-4)
    optimizer = torch.optim.Adam(layer.parameters(), 0.01)
    for _ in range(5):
        optimizer.zero_grad()
        (layer.encode(u)[0] - u.flip(3)).square().mean().backward()
        optimizer.step()
    assert not torch.allclose(layer(u)[0], layer(u)[1])
    k, size = 16, 3 * 6 * 8
    assert sum(p.numel() for p in layer.parameters()) == size * 20 + 20 + 20 * 2 * k + 2 * k
    released = DenseTransformer(3, (6, 8), init="release")(u)
    assert float(released.abs().max()) > 0.9
    with pytest.raises(ValueError, match=r"maps of \(6, 8\), not of \(8, 6\)"):
        layer(torch.randn(1, 3, 8, 6))
    with pytest.raises(ValueError, match="the size at which it was made"):
        layer.decode(torch.randn(4, 3, 3, 4), grid)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
    ).eval()


def test_a_pair_in_somebodys_network():
    model, x = network(), torch.randn(2, 3, 8, 8)
    bent = insert_dense_transformer(model, "0", "2", x, points=(3, 3))
    torch.testing.assert_close(bent(x), model(x), rtol=1e-4, atol=1e-4)  # it starts as nothing
    bias = bent.dense_transformer.transformer.localisation[3].bias
    bias.data = 0.3 * torch.randn(18)
    u = model[0](x)
    v, grid = bent.dense_transformer.transformer.encode(u)
    expected = model[4](model[3](bent.dense_transformer.transformer.decode(model[2](model[1](v)), grid)))
    torch.testing.assert_close(bent(x), expected)
    torch.testing.assert_close(copy.deepcopy(bent)(x), expected)
    bent(x).sum().backward()
    assert bias.grad.abs().sum() > 0
    twice = insert_dense_transformer(bent, "1", "3", x)
    assert twice.dense_transformer_2.transformer.map_size == (8, 8)
    assert twice(x).shape == model(x).shape
    with pytest.raises(ValueError, match=r"0 gives maps of \(8, 8\), 4 of \(4, 4\)"):
        insert_dense_transformer(model, "0", "4", x)
    with pytest.raises(RuntimeError, match="before 2"):
        insert_dense_transformer(model, "2", "0", x)(x)


def test_folding_and_the_summary_of_a_warp():
    regular = map_positions((5, 5)).view(1, 5, 5, 2)
    assert float(folding_penalty(regular)) == 0
    assert float(folding_penalty(regular * torch.tensor([-1.0, 1.0]))) == pytest.approx(1)
    layer = DenseTransformer(1, (6, 6), (2, 2))
    layer.localisation[3].bias.data = torch.atanh(torch.tensor([0.5, 0.0] * 4))
    found = warp_summary(layer, torch.randn(2, 1, 6, 6))
    torch.testing.assert_close(found.displacement[..., 0], torch.full((2, 6, 6), 1.5), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.area, torch.ones(2, 5, 5), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.kept, torch.full((2,), 1 / 6))
    assert "1.50 positions away" in found.summary()
