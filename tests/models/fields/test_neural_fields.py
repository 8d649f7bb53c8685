"""Neural fields: spreads at the start, frequencies, ranges."""

import math

import pytest
import torch

from neurarium.models import FourierFeatureField, SirenField, TinyNeRF


@torch.no_grad()
def test_what_enters_each_sine_keeps_its_spread() -> None:
    torch.manual_seed(0)
    field = SirenField(2, 3, width=512, depth=5, w0=200.0)
    x = 2 * torch.rand(4000, 2) - 1
    first = field[0](x) * 200
    # two coordinates of variance 1/3 times weights uniform in ±1/2: variance 2 · 1/3 · 1/12
    assert float(first.std()) == pytest.approx(200 * math.sqrt(2 / 3 / 12), rel=0.1)
    signal = field[1](field[0](x))
    for n in (2, 4):
        before = 200 * field[n](signal)
        assert float(before.std()) == pytest.approx(1.0, rel=0.1)  # sqrt(width · 1/2 · (6 / width) / 3)
        signal = field[n + 1](field[n](signal))
    assert all(not layer.bias.any() for layer in (field[0], field[2], field[4]))
    assert float(field(x).mean()) == pytest.approx(0.5, abs=0.1)


def test_random_frequencies_make_a_stationary_kernel() -> None:
    field = FourierFeatureField(2, 1, features=20_000, scale=3.0, generator=torch.Generator().manual_seed(0))
    x = torch.tensor([[0.1, 0.2], [0.3, 0.1], [0.9, -0.4]], dtype=torch.float32)
    phase = x @ field.frequencies
    features = torch.cat((phase.sin(), phase.cos()), -1)
    kernel = features @ features.T / 20_000
    expected = torch.exp(-9 * torch.cdist(x, x).square() / 2)
    torch.testing.assert_close(kernel, expected, atol=0.03, rtol=0)
    assert ((field(x) >= 0) & (field(x) <= 1)).all()


def test_a_radiance_field_has_colours_and_densities() -> None:
    torch.manual_seed(0)
    values = TinyNeRF(6, 3.0, 16, 2)(torch.randn(50, 3))
    assert values.shape == (50, 4)
    assert ((values[:, :3] > 0) & (values[:, :3] < 1)).all()
    assert (values[:, 3] >= 0).all()


def test_too_few_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="depth"):
        SirenField(2, 1, depth=1)
