"""Converting the activations of a network, and the account of it."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from neurarium.compression import calibrate, convert_activations
from neurarium.layers import FewBitActivation


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.act = nn.Linear(6, 6), nn.SiLU()

    def forward(self, x):
        return F.gelu(self.fc(self.act(self.fc(x))))


def test_outputs_are_exact_and_the_original_untouched():
    model = nn.Sequential(nn.Linear(6, 64), nn.GELU(), nn.Linear(64, 64), nn.SiLU(inplace=True), nn.Linear(64, 2))
    before = copy.deepcopy(model)
    x = torch.randn(40, 6)
    done = convert_activations(model, 3, example=x)
    assert torch.equal(done.model(x), model(x))
    assert list(done.changed) == ["1", "3"]
    assert isinstance(model[1], nn.GELU)
    assert repr(model) == repr(before)
    assert all(p.grad is None for p in model.parameters())
    elements = 40 * 64
    assert done.by_module["1"] == (4 * elements, 3 * elements // 8 + 32)
    assert done.kept_before - done.kept_after >= 4 * elements - 3 * elements // 8 - 32
    assert "2 changed: 1, 3" in done.summary()


def test_transformer_layers_hold_functions():
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, F.gelu, batch_first=True, norm_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    x = torch.randn(3, 5, 8)
    done = convert_activations(model, 2, example=x)
    assert list(done.changed) == ["layers.0.activation", "layers.1.activation"]
    torch.testing.assert_close(done.model(x), model(x))
    assert done.skipped == {}
    assert done.kept_after < 0.9 * done.kept_before
    assert done.by_module["layers.0.activation"][0] == 4 * 3 * 5 * 16


def test_evaluation_uses_what_was_put_in():
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, nn.GELU(), batch_first=True)
    other = convert_activations(layer, make=lambda _: nn.ReLU()).model
    x = torch.randn(3, 5, 8)
    expected = other.train()(x)
    with torch.no_grad():
        torch.testing.assert_close(other.eval()(x), expected)
        assert not torch.allclose(layer.eval()(x), expected, atol=1e-3)


def test_reports_functional_activations():
    done = convert_activations(Functional(), 3, example=torch.randn(4, 6))
    assert done.skipped == {"": "calls gelu in its forward"}
    assert "not changed: the model: calls gelu" in done.summary()


def test_shared_modules_and_bare_modules():
    act = nn.GELU()
    done = convert_activations(nn.Sequential(nn.Linear(3, 3), act, nn.Linear(3, 3), act), 3)
    assert done.model[1] is done.model[3]
    assert isinstance(done.model[1], FewBitActivation)
    assert isinstance(convert_activations(nn.GELU(), 2).model, FewBitActivation)


def test_twice_finds_nothing():
    once = convert_activations(nn.Sequential(nn.Linear(3, 3), nn.GELU())).model
    with pytest.raises(ValueError, match="looked for an activation module: GELU"):
        convert_activations(once)
    with pytest.raises(ValueError, match="looked for an activation module"):
        convert_activations(nn.Sequential(nn.Linear(3, 3), nn.ReLU()))
    with pytest.raises(ValueError, match="weights names"):
        convert_activations(nn.Sequential(nn.GELU()), weights={"7": torch.ones_like})


def test_calibration_lowers_the_error_where_the_inputs_are():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 50), nn.GELU(), nn.Linear(50, 1))
    with torch.no_grad():
        model[0].weight.mul_(0.5)
    loader = [(torch.randn(100, 6), torch.zeros(100)) for _ in range(5)]
    weights = calibrate(model, loader)
    assert list(weights) == ["1"]
    assert isinstance(model[1], nn.GELU)
    points = torch.linspace(-10, 10, 4001)
    assert float(weights["1"](points).mean() * 20) == pytest.approx(1, abs=0.02)
    x = model[0](torch.randn(2000, 6)).detach()

    def miss(layer):
        at = x.clone().requires_grad_()
        (ours,) = torch.autograd.grad(layer(at).sum(), at)
        (exact,) = torch.autograd.grad(F.gelu(at).sum(), at)
        return float((ours - exact).square().mean())

    fitted = convert_activations(model, 2, weights=weights).model[1]
    assert miss(fitted) < 0.7 * miss(convert_activations(model, 2).model[1])
