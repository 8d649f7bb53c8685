"""Corruptions: shapes, ranges, seeds, severities, and the truths each kind must obey."""

import math

import pytest
import torch

from neurarium.data import CORRUPTIONS, corrupt, load


def seeded(x, kind, severity=3, seed=0):
    return corrupt(x, kind, severity, torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def digits():
    return load("mnist-small").test.x[:64]


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_shape_dtype_range_and_seed(kind, digits):
    before = digits.clone()
    found = seeded(digits, kind)
    assert found.shape == digits.shape
    assert found.dtype == torch.uint8
    assert not torch.equal(found, digits)
    assert torch.equal(digits, before)
    assert torch.equal(found, seeded(digits, kind))
    colour = torch.rand(3, 3, 30, 22, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    other = seeded(colour, kind)
    assert other.dtype == torch.float64
    assert other.shape == colour.shape
    assert float(other.min()) >= 0
    assert float(other.max()) <= 1
    assert seeded(digits[:0], kind).shape == (0, 28, 28)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_higher_severity_is_further_from_the_image(kind, digits):
    distance = [float((seeded(digits, kind, s).float() - digits.float()).square().mean()) for s in (1, 2, 3, 4, 5)]
    assert distance == sorted(distance)
    assert distance[4] > 1.5 * distance[0]


def test_noise_moments():
    grey = torch.full((50, 28, 28), 0.5)
    noisy = seeded(grey, "gaussian_noise", 1)
    assert float(noisy.std()) == pytest.approx(0.08, rel=0.02)
    shot = seeded(grey * 0.2, "shot_noise", 1)
    assert float(shot.var()) == pytest.approx(0.1 / 40, rel=0.05)  # Poisson: variance = mean / photons
    assert float(shot.mean()) == pytest.approx(0.1, rel=0.01)
    impulse = seeded(grey, "impulse_noise", 5)
    assert float((impulse != 0.5).float().mean()) == pytest.approx(0.32, abs=0.01)
    assert set(impulse.unique().tolist()) == {0.0, 0.5, 1.0}


@pytest.mark.parametrize("kind", ["defocus_blur", "motion_blur", "pixelate", "elastic", "jpeg"])
def test_a_flat_image_stays_flat(kind):
    # Of the cosines of a flat block one is not 0: its rounding may move the whole by half a step.
    grey = torch.full((4, 28, 28), 0.3)
    found = seeded(grey, kind, 2)
    assert float((found - found[:, :1, :1]).abs().max()) < 1e-5
    assert float((found - grey).abs().max()) < (0.07 / 8 / 2 + 1e-5 if kind == "jpeg" else 1e-5)


def test_blurs_spread_a_point_and_keep_its_mass():
    point = torch.zeros(8, 29, 29)
    point[:, 14, 14] = 1
    disc = seeded(point, "defocus_blur", 5)
    assert torch.allclose(disc.sum((1, 2)), torch.ones(8), atol=1e-5)
    assert torch.allclose(disc, disc.transpose(1, 2), atol=1e-6)
    assert int((disc[0] > 0).sum()) == pytest.approx(math.pi * 3.5**2, rel=0.15)
    line = seeded(point, "motion_blur", 5)
    assert torch.allclose(line.sum((1, 2)), torch.ones(8), atol=1e-5)
    assert torch.allclose(line, line.flip(1, 2), atol=1e-6)  # symmetric about the point


def test_light():
    x = torch.rand(4, 28, 28, generator=torch.Generator().manual_seed(0)) * 0.5
    assert torch.allclose(seeded(x, "brightness", 2), x + 0.2)
    flat = seeded(x, "contrast", 3)
    assert torch.allclose(flat.mean((1, 2)), x.mean((1, 2)), atol=1e-6)
    assert torch.allclose(flat.std((1, 2)), 0.35 * x.std((1, 2)), rtol=1e-4)


def test_moves_have_both_directions_and_come_back():
    x = torch.zeros(40, 28, 28)
    x[:, 14, 20] = 1.0
    turned = seeded(x, "rotate", 5)
    rows = (turned * torch.arange(28.0)[:, None]).sum((1, 2)) / turned.sum((1, 2))
    expected = 6.5 * math.sin(math.radians(42))
    assert set((rows - 13.5).div(expected).round().tolist()) == {-1.0, 1.0}
    moved = seeded(x, "translate", 3)
    columns = (moved * torch.arange(28.0)).sum((1, 2)) / moved.sum((1, 2))
    assert {round(abs(float(c) - 20), 2) for c in columns} == {3.36}  # 0.12 of 28 pixels


def test_refusals():
    x = torch.rand(2, 28, 28)
    with pytest.raises(ValueError, match="kind must be one of gaussian_noise"):
        corrupt(x, "snow")
    with pytest.raises(ValueError, match="severity must be"):
        corrupt(x, "fog", 6)
    with pytest.raises(ValueError, match="before they are standardised"):
        corrupt(x - 1, "fog")
    with pytest.raises(ValueError, match=r"not \(2, 784\)"):
        corrupt(x.flatten(1), "fog")
    with pytest.raises(ValueError, match="uint8 or floating point"):
        corrupt(x.int(), "fog")
