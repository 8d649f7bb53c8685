"""Contrast, momentum and random views against closed forms."""

import math

import pytest
import torch
from torch import nn

from neurarium.objectives import MomentumEncoder, RandomViews, cosine_momentum, info_nce


@pytest.mark.parametrize("tau", [0.2, 1.0])
def test_closed_forms(tau):
    alike = torch.ones(16, 5)
    assert float(info_nce(alike, alike, tau)) == pytest.approx(2 * tau * math.log(16), rel=1e-5)
    apart = torch.eye(8)
    expected = 2 * tau * math.log(1 + 7 * math.exp(-1 / tau))
    assert float(info_nce(apart, apart, tau)) == pytest.approx(expected, rel=1e-5)
    assert float(info_nce(apart, apart, tau, scale=False)) == pytest.approx(expected / 2 / tau, rel=1e-5)
    torch.testing.assert_close(info_nce(3 * apart, apart / 7, tau), info_nce(apart, apart, tau))


def test_the_momentum_encoder_follows():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    slow = MomentumEncoder(net)
    before = [p.clone() for p in slow.parameters()]
    with torch.no_grad():
        for p in net.parameters():
            p += 1
    slow.update(net, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, slow.parameters()))
    slow.update(net, 0.75)
    for a, b in zip(before, slow.parameters()):
        torch.testing.assert_close(b, a + 0.25)
    assert not any(p.requires_grad for p in slow.parameters())
    assert not slow(torch.randn(6, 3)).requires_grad
    assert not torch.equal(slow.module[1].running_mean, net[1].running_mean)  # statistics of its own passes
    with pytest.raises(ValueError, match="other shapes"):
        slow.update(nn.Linear(2, 2), 0.5)
    with pytest.raises(ValueError, match="momentum"):
        slow.update(net, 1.5)


def test_the_momentum_rises_to_one():
    assert cosine_momentum(0, 100) == pytest.approx(0.99)
    assert cosine_momentum(100, 100) == 1
    assert cosine_momentum(50, 100) == pytest.approx(0.995)
    with pytest.raises(ValueError, match="5 of 4"):
        cosine_momentum(5, 4)


def test_views_that_change_nothing_and_views_that_flip():
    x = torch.randn(6, 2, 9, 9)
    same = RandomViews(crop=1.0, flip=0.0, jitter=0.0, blur=0.0)(x)
    torch.testing.assert_close(same, x, atol=1e-5, rtol=1e-5)
    flipped = RandomViews(crop=1.0, flip=1.0, jitter=0.0, blur=0.0)(x)
    torch.testing.assert_close(flipped, x.flip(-1), atol=1e-5, rtol=1e-5)


def test_a_blur_keeps_the_mean_of_a_flat_image_and_smooths_others():
    views = RandomViews(crop=1.0, flip=0.0, jitter=0.0, blur=1.0)
    torch.testing.assert_close(views(torch.full((3, 1, 8, 8), 2.5)), torch.full((3, 1, 8, 8), 2.5))
    x = torch.randn(50, 1, 16, 16)
    assert float(views(x).std()) < 0.8 * float(x.std())


def test_draws_are_the_generators_and_differ_between_examples():
    x = torch.randn(1, 1, 12, 12).expand(4, 1, 12, 12)
    first = RandomViews(generator=torch.Generator().manual_seed(0))(x)
    again = RandomViews(generator=torch.Generator().manual_seed(0))(x)
    torch.testing.assert_close(first, again)
    assert float((first[0] - first[1]).abs().max()) > 1e-2
    assert RandomViews()(torch.randn(2, 3, 10, 7, dtype=torch.float64)).dtype == torch.float64


def test_refusals():
    with pytest.raises(ValueError, match="crop"):
        RandomViews(crop=0.0)
    with pytest.raises(ValueError, match="temperature"):
        info_nce(torch.randn(3, 4), torch.randn(3, 4), 0.0)
