"""Autoencoder: the linear one is principal component analysis, every shape comes back, grids follow."""

import math

import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn
from torch.nn.functional import mse_loss

from neurarium.layers import GridSchedule, KANLinear, grid_coverage, update_grids
from neurarium.models import Autoencoder
from neurarium.objectives import reconstruction_loss


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_a_linear_kan_autoencoder_is_principal_component_analysis() -> None:
    mixing = torch.randn(6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = torch.randn(80, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) @ mixing
    x = x - x.mean(0)
    torch.manual_seed(0)
    layers = [KANLinear(a, b, base_activation="identity", dtype=torch.float64) for a, b in ((6, 2), (2, 6))]
    for layer in layers:
        layer.coefficients.requires_grad_(False).zero_()
    model = Autoencoder(*layers)
    weights = [layer.base_weight for layer in layers]
    optimizer = torch.optim.LBFGS(weights, max_iter=150, tolerance_change=1e-14, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = mse_loss(model(x), x)
        loss.backward()
        return loss

    optimizer.step(closure)
    best = Autoencoder.pca(x, 2)
    assert mse_loss(model(x), x).item() == pytest.approx(mse_loss(best(x), x).item(), rel=1e-3)
    learned, axes = torch.linalg.qr(layers[1].base_weight).Q, best.decoder[0].weight
    cosines = torch.linalg.svdvals(learned.t() @ axes)
    assert float(cosines.detach().min()) > math.cos(1e-2)


def test_pca_is_that_of_scikit_learn() -> None:
    x = drawn(60, 3, 5)
    model, peer = Autoencoder.pca(x, 4), PCA(4).fit(x.flatten(1).numpy())
    codes = torch.from_numpy(peer.transform(x.flatten(1).numpy())).float()
    torch.testing.assert_close(model.encode(x).abs(), codes.abs(), rtol=1e-3, atol=1e-5)
    back = torch.from_numpy(peer.inverse_transform(codes.numpy())).float().view_as(x)
    torch.testing.assert_close(model(x), back, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [27, 28, 32, 33])
def test_images_of_every_size_come_back_in_their_shape(side: int, channels: int) -> None:
    shape = (channels, side, side - 2)
    for make in (Autoencoder.kan, Autoencoder.mlp, Autoencoder.conv, Autoencoder.kan_conv):
        model = make(shape, 4, (3, 5))
        x = drawn(2, *shape)
        assert model(x).shape == x.shape
        assert model.encode(x).shape == (2, 4)
        assert model.decode(drawn(7, 4)).shape == (7, *shape)


@pytest.mark.parametrize("length", [13, 14, 15, 16])
def test_signals_and_tables_come_back(length: int) -> None:
    x = drawn(3, 2, length)
    assert Autoencoder.conv((2, length), 3, (4, 4, 4))(x).shape == x.shape
    assert Autoencoder.kan(length, 3)(x[:, 0]).shape == (3, length)
    assert Autoencoder.mlp(length, 3, output="sigmoid")(x[:, 0]).min() > 0


def test_parameters_are_edges_times_grid_and_degree_and_two() -> None:
    model = Autoencoder.kan((1, 4, 5), 3, (8, 6), decoder_hidden=(7,), grid_size=4, degree=2)
    edges = 20 * 8 + 8 * 6 + 6 * 3 + 3 * 7 + 7 * 20
    assert sum(p.numel() for p in model.parameters()) == edges * (4 + 2 + 2)


def test_a_grid_step_keeps_the_reconstruction_and_covers_all_inputs() -> None:
    torch.manual_seed(0)
    model, x = Autoencoder.kan(12, 3, (8,)), drawn(400, 12) * 1.2
    before, inside = model(x).detach(), grid_coverage(model, x)
    assert min(inside.values()) < 0.9
    schedule = GridSchedule(model, x, steps=(2,))
    schedule(1)
    torch.testing.assert_close(model(x), before)
    schedule(2)
    after = model(x).detach()
    # what lay outside had no spline, and the refit leaves it none
    assert float((after - before).norm() / before.norm()) < 1e-2
    assert set(grid_coverage(model, x).values()) == {1.0}
    assert 0 < schedule.outside[2] < 1


def test_constant_images_are_learned_through_grid_updates() -> None:
    torch.manual_seed(0)
    model, x = Autoencoder.kan((1, 5, 5), 2, (4,)), torch.full((64, 1, 5, 5), -1.0)
    schedule = GridSchedule(model, x, steps=(5, 20))
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for step in range(1, 61):
        optimizer.zero_grad()
        loss = reconstruction_loss(model(x), x)
        loss.backward()
        optimizer.step()
        schedule(step)
    assert loss.item() < 1e-3


def test_norm_keeps_all_inputs_on_fixed_grids() -> None:
    torch.manual_seed(0)
    model, x = Autoencoder.kan(12, 1, (32, 32), norm=True), drawn(200, 12)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, KANLinear):
                layer.base_weight.mul_(20)
    inside = grid_coverage(model, x)
    assert min(inside.values()) > 0.85
    assert float(model.encode(x).std()) > 0.01
    assert float(model(x).std(0).mean()) > 0.01  # a code of one number gets through


def test_the_first_layer_asks_for_no_gradient_of_the_input() -> None:
    model, x = Autoencoder.kan(12, 3), drawn(5, 12)
    model(x).sum().backward()
    assert x.grad is None
    assert all(p.grad is not None for p in model.parameters())


def test_bad_input_is_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"gives \[5\], but an input is \[6\]"):
        Autoencoder(nn.Linear(6, 2), nn.Linear(2, 5))(drawn(3, 6))
    with pytest.warns(UserWarning, match="no smaller than an input of 6"):
        Autoencoder.mlp(6, 6)
    with pytest.raises(ValueError, match="output must be one of identity, sigmoid"):
        Autoencoder.kan(6, 2, output="tanh")
    with pytest.raises(ValueError, match="at least 1, not 0"):
        Autoencoder.kan(6, 0)
    with pytest.raises(ValueError, match="shape must be"):
        Autoencoder.conv((6,), 2)
    with pytest.raises(ValueError, match="height, width"):
        Autoencoder.kan_conv((2, 6), 2)
    with pytest.raises(ValueError, match="latent must be at most 4"):
        Autoencoder.pca(drawn(4, 9), 5)
    model = Autoencoder.kan(6, 2)
    with pytest.raises(ValueError, match=r"(3[3-9]|4\d)% of the inputs of 'encoder.1' lie outside its grid \[-1, 1\]"):
        grid_coverage(model, torch.randn(2000, 6, generator=torch.Generator().manual_seed(0)) * 1.2, at_least=0.9)
    with pytest.raises(ValueError, match="no KANLinear"):
        grid_coverage(nn.Linear(3, 3), drawn(2, 3))
    update_grids(model, drawn(50, 6))
