"""SparseLinear against a dense layer with the same zeros."""

import pytest
import torch
from torch import nn

from neurarium.compression import account
from neurarium.layers import SparseLinear, draw_positions, draw_scale_free_positions, sparsify


@pytest.mark.parametrize("storage", ["csr", "mask"])
def test_forward_and_gradients_are_the_masked_dense_layers(storage: str) -> None:
    generator = torch.Generator().manual_seed(0)
    sparse = SparseLinear(30, 11, density=0.15, storage=storage, generator=generator, dtype=torch.float64)
    assert sparse.stores == storage
    dense = sparse.to_linear()
    x = torch.randn(2, 7, 30, dtype=torch.float64, generator=generator, requires_grad=True)
    twin = x.detach().clone().requires_grad_()
    target = torch.randn(2, 7, 11, dtype=torch.float64, generator=generator)
    (sparse(x) * target).sum().backward()
    (dense(twin) * target).sum().backward()
    torch.testing.assert_close(sparse(x), dense(twin))
    torch.testing.assert_close(x.grad, twin.grad)
    torch.testing.assert_close(sparse.bias.grad, dense.bias.grad)
    torch.testing.assert_close(sparse.values.grad, dense.weight.grad[dense.weight != 0])
    assert sparse.values.grad.shape == (round(0.15 * 330),)


@pytest.mark.parametrize("storage", ["csr", "mask"])
def test_gradcheck(storage: str) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = SparseLinear(5, 4, density=0.4, storage=storage, generator=generator, dtype=torch.float64)
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)

    def forward(x: torch.Tensor, values: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, {"values": values, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(forward, (x, layer.values, layer.bias))


@pytest.mark.parametrize("storage", ["csr", "mask"])
def test_round_trip_with_empty_rows_and_columns(storage: str) -> None:
    dense = nn.Linear(6, 5)
    with torch.no_grad():
        dense.weight.mul_(torch.rand(5, 6, generator=torch.Generator().manual_seed(0)) < 0.3)
        dense.weight[2] = 0
        dense.weight[:, 4] = 0
    sparse = SparseLinear.from_linear(dense, storage=storage)
    assert torch.equal(sparse.to_linear().weight, dense.weight)
    x = torch.randn(4, 6)
    torch.testing.assert_close(sparse(x[0]), dense(x[0]))
    torch.testing.assert_close(sparse(x), dense(x))
    assert sparse(torch.randn(0, 6)).shape == (0, 5)
    assert sparse.density == pytest.approx(int(dense.weight.count_nonzero()) / 30)


def test_a_mask_keeps_weights_that_are_zero_now() -> None:
    dense = nn.Linear(6, 5)
    nn.init.zeros_(dense.weight)
    mask = torch.zeros(5, 6, dtype=torch.bool)
    mask[1, 2] = mask[4, 0] = True
    sparse = SparseLinear.from_linear(dense, mask)
    sparse(torch.ones(1, 6)).sum().backward()
    assert torch.equal(sparse.values.grad, torch.ones(2))


@pytest.mark.parametrize("storage", ["csr", "mask"])
def test_a_checkpoint_of_another_density_and_pattern_loads(storage: str) -> None:
    saved = SparseLinear(10, 8, density=0.3, storage=storage)
    x = torch.randn(3, 10)
    for density in (0.3, 0.1):
        other = SparseLinear(10, 8, density=density, storage=storage)
        parameter = other.values
        other(x.clone().requires_grad_()).sum().backward()  # derives from the old pattern
        other.zero_grad()
        other.load_state_dict(saved.state_dict())
        assert other.values is parameter
        inputs, twin = x.clone().requires_grad_(), x.clone().requires_grad_()
        other(inputs).square().sum().backward()
        saved(twin).square().sum().backward()
        assert torch.equal(inputs.grad, twin.grad)


def test_sparsify_stores_and_counts_less() -> None:
    model = nn.Sequential(nn.Linear(200, 100), nn.ReLU(), nn.Linear(100, 10))
    with torch.no_grad():
        model[0].weight.mul_(torch.rand(100, 200, generator=torch.Generator().manual_seed(0)) < 0.05)
    sparse = sparsify(model, storage="csr").model
    assert isinstance(sparse[0], SparseLinear)
    assert type(sparse[2]) is nn.Linear
    x = torch.randn(5, 200)
    torch.testing.assert_close(sparse(x), model(x))
    dense_cost, sparse_cost = account(model, x), account(sparse, x)
    assert sparse_cost.nonzero == dense_cost.nonzero
    assert sparse_cost.flops == 2 * 5 * (sparse[0].values.numel() + 1000)
    assert sparse_cost.bytes < 0.3 * dense_cost.bytes
    with pytest.raises(ValueError, match="nothing to convert"):
        sparsify(nn.Sequential(nn.Linear(4, 4)))


def test_storage_follows_size_and_density() -> None:
    chosen = {
        (256, 0.05): "csr", (256, 0.15): "csr", (256, 0.2): "mask", (255, 0.05): "mask",
    }  # fmt: skip
    for (width, density), storage in chosen.items():
        layer = SparseLinear(width, 256, density)
        assert layer.stores == storage
        assert f"storage={storage}" in repr(layer)
    whole = SparseLinear(8, 5, density=1.0)
    x = torch.randn(3, 8)
    assert torch.equal(whole(x), whole.to_linear()(x)), "with all of its weights it is the dense layer"


def test_half_precision_and_autocast() -> None:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(300, 300), SparseLinear(300, 300, 0.05, generator=generator))
    assert model[1].stores == "csr"
    x = torch.randn(4, 300)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(x)
        output.float().sum().backward()
    torch.testing.assert_close(output.float(), model(x), rtol=0.1, atol=0.05)
    half = model.bfloat16()
    assert half[1].stores == "mask"
    assert half(x.bfloat16()).dtype == torch.bfloat16


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="storage must be one of auto, csr, mask, not 'dense'"):
        SparseLinear(4, 4, storage="dense")
    with pytest.raises(ValueError, match="density"):
        SparseLinear(4, 4, density=0.0)
    with pytest.raises(ValueError, match="at least one"):
        SparseLinear.from_linear(nn.Linear(4, 4), torch.zeros(4, 4))
    with pytest.raises(ValueError, match="shape"):
        SparseLinear.from_linear(nn.Linear(4, 4), torch.ones(4, 3))


def test_scale_free_places_have_hubs_where_uniform_ones_have_none() -> None:
    generator = torch.Generator().manual_seed(0)
    places = draw_scale_free_positions(400, 300, 6000, exponent=2.5, generator=generator)
    assert places.numel() == 6000
    assert bool((places.diff() > 0).all())  # sorted, none twice
    uniform = draw_positions(400 * 300, 6000, generator=generator)
    for ends, units in ((lambda p: p % 400, 400), (lambda p: p // 400, 300)):
        hubs, none = (torch.bincount(ends(p), minlength=units).double() for p in (places, uniform))
        assert hubs.var() / hubs.mean() > 10 > 2 > none.var() / none.mean()


def test_scale_free_degrees_fall_with_the_rank_as_the_exponent_says() -> None:
    """Expected degrees are in proportion to rank^(-1 / (exponent - 1)) while few places are taken."""
    generator = torch.Generator().manual_seed(1)
    degrees = sum(
        torch.bincount(
            draw_scale_free_positions(2000, 2000, 4000, exponent, generator) % 2000, minlength=2000
        ).sort(descending=True).values.double()
        for exponent in [3.0] * 20
    ) / 20  # fmt: skip
    rank = torch.arange(1, 2001).double()
    expected = 4000 * rank**-0.5 / (rank**-0.5).sum()
    assert abs(float(degrees[1:30].sum() / expected[1:30].sum()) - 1) < 0.15


@pytest.mark.parametrize(("count", "exponent", "word"), [(0, 3.0, "count"), (51, 3.0, "count"), (5, 2.0, "exponent")])
def test_scale_free_refusals(count: int, exponent: float, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        draw_scale_free_positions(10, 10, count, exponent)
