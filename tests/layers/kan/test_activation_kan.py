"""AF-KAN layers against their formula written out, and against the batch that a row stands in."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import layer_norm, linear, silu

from neurarium.layers import ActivationKANLinear, ActivationPairBasis, KANLinear
from neurarium.layers.kan import _activation_kan


def made(*sizes: int, **options) -> ActivationKANLinear:
    layer = ActivationKANLinear(*sizes, dtype=torch.float64, **options)
    with torch.no_grad():
        layer.features.low += 0.05 * torch.randn(6, dtype=torch.float64)
    return layer


def test_features_of_the_identity_are_polynomials() -> None:
    x = torch.randn(5, 2, dtype=torch.float64)
    lows = torch.tensor([-3, -2, -1, 0, 1, 2], dtype=torch.float64) / 3
    u, v = x[..., None] - lows, lows + 4 / 3 - x[..., None]
    s, q, p = u + v, u**2 + v**2, u * v
    expected = {"sum": s, "prod": p, "sum_prod": s + p, "quad1": p**2, "quad2": p + q, "cubic1": s * q, "cubic2": p**3}
    for combine, values in expected.items():
        torch.testing.assert_close(ActivationPairBasis("identity", combine).double()(x), values, rtol=1e-6, atol=1e-6)


def test_parameters_are_counted_as_published() -> None:
    model = nn.Sequential(ActivationKANLinear(784, 64), ActivationKANLinear(64, 10))
    assert sum(p.numel() for p in model.parameters()) == 52_552


@pytest.mark.parametrize("feature_norm", ["sample", "batch", None])
@pytest.mark.parametrize("reduce", ["global_attn", "spatial_attn", "multistep"])
def test_the_layer_is_its_formula(reduce: str, feature_norm: str | None, recwarn) -> None:
    layer = made(5, 3, reduce=reduce, feature_norm=feature_norm)
    x = torch.randn(7, 5, dtype=torch.float64)
    values = (silu(x[..., None] - layer.features.low) * silu(layer.features.high - x[..., None])) ** 2
    if feature_norm == "sample":
        low = torch.stack([v.min() for v in values])[:, None, None]
        values = (values - low) / (torch.stack([v.max() for v in values])[:, None, None] - low)
    elif feature_norm == "batch":
        values = values / values.norm()  # as released: the norm cancels
        values = (values - values.min()) / (values.max() - values.min())
    if reduce == "global_attn":
        scores = (values @ layer.reduce_weight[0] + layer.reduce_bias) / max(1.0, math.sqrt(5))
        reduced = (values * scores.softmax(1)[..., None]).sum(2)
    elif reduce == "multistep":
        reduced = values @ layer.reduce_weight[0] + layer.reduce_bias
    else:
        padded = nn.functional.pad(values, (0, 0, 1, 1))
        kernel = layer.reduce_weight[:, 0]
        scores = sum(padded[:, k : k + 5] * kernel[:, k] for k in range(3)) + layer.reduce_bias
        reduced = (values * (scores / math.sqrt(5)).softmax(2)).sum(2)
    expected = linear(silu(layer_norm(reduced, (5,))), layer.weight)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer(x.view(7, 1, 5)), expected[:, None])


@pytest.mark.parametrize("reduce", ["global_attn", "spatial_attn", "multistep"])
def test_gradients_to_everything(reduce: str) -> None:
    layer = made(4, 2, reduce=reduce)
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    names, values = zip(*layer.named_parameters(), strict=True)

    def forward(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(forward, (x, *values))
    assert torch.autograd.grad(layer(x).square().sum(), layer.features.low)[0].any()


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_blocks_of_any_size_are_equal(rows: int, monkeypatch) -> None:
    layer = made(6, 4)
    x = torch.randn(40, 6, dtype=torch.float64)
    whole = torch.autograd.grad(layer(x).sin().sum(), tuple(layer.parameters()))
    monkeypatch.setattr(_activation_kan, "ROWS", rows * 36)
    torch.testing.assert_close(torch.autograd.grad(layer(x).sin().sum(), tuple(layer.parameters())), whole)


def test_an_output_does_not_depend_on_its_batch_unless_asked() -> None:
    x = torch.randn(30, 6, dtype=torch.float64)
    for feature_norm in ("sample", None):
        layer = made(6, 4, feature_norm=feature_norm)
        torch.testing.assert_close(torch.cat([layer(row[None]) for row in x]), layer(x))
    with pytest.warns(UserWarning, match="other rows"):
        layer = made(6, 4, feature_norm="batch")
    assert not torch.allclose(layer(x[:3]), layer(torch.cat([x[:3], 5 * x[3:]]))[:3])


def test_sample_features_lie_between_0_and_1_and_constants_give_numbers() -> None:
    layer = made(6, 4)
    values = layer._normalised(torch.randn(9, 6, dtype=torch.float64), None, None)
    assert torch.equal(values.amin((1, 2)), torch.zeros(9, dtype=torch.float64))
    assert torch.equal(values.amax((1, 2)), torch.ones(9, dtype=torch.float64))
    with torch.no_grad():
        layer.features.low.fill_(0)
        layer.features.high.fill_(1)
    x = torch.full((2, 6), 0.3, dtype=torch.float64, requires_grad=True)
    output = layer(x)
    output.sum().backward()
    assert torch.isfinite(output).all()
    assert torch.isfinite(x.grad).all()


def test_attention_is_uniform_for_equal_inputs_and_great_temperatures() -> None:
    layer = made(5, 3)
    same = layer.attention(torch.full((2, 5), 0.4, dtype=torch.float64))
    torch.testing.assert_close(same, torch.full((2, 5), 0.2, dtype=torch.float64))
    with torch.no_grad():
        layer.temperature.fill_(1e9)
    varied = layer.attention(torch.randn(2, 5, dtype=torch.float64))
    torch.testing.assert_close(varied, torch.full((2, 5), 0.2, dtype=torch.float64), atol=1e-8, rtol=0)


def test_the_features_work_with_full_weights_too() -> None:
    layer = KANLinear(4, 3, basis=ActivationPairBasis("silu", "quad1"), base_activation=None, scale=False)
    layer(torch.randn(10, 4)).square().sum().backward()
    assert layer.basis.low.grad.any()
    assert layer.coefficients.shape == (3, 4, 6)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'quad1'"):
        ActivationKANLinear(4, 3, combine="quad_1")
    with pytest.raises(ValueError, match="activation must be"):
        ActivationKANLinear(4, 3, activation="swish")
    with pytest.raises(ValueError, match="in_features 1"):
        ActivationKANLinear(1, 3)
    with pytest.raises(ValueError, match="reduce"):
        ActivationKANLinear(4, 3, reduce="mean")
    with pytest.raises(ValueError, match="grid_size"):
        ActivationKANLinear(4, 3, grid_size=0)
