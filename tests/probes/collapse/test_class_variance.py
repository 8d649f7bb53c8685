"""Class-distance normalized variance against Gaussians with known moments, invariances and a two-pass sum."""

import math

import pytest
import torch
from torch import nn

from neurarium.data import Arrays, rotated_classes, split_classes
from neurarium.probes import class_distance_normalized_variance, few_shot_accuracy
from neurarium.probes.collapse._class_moments import ClassMoments
from neurarium.theory import few_shot_bound


def gaussians(n, p=8, sigma=1.0, distance=6.0, seed=0):
    x = sigma * torch.randn(2 * n, p, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    y = torch.arange(2).repeat_interleave(n)
    x[n:, 0] += distance
    return x, y


def test_two_gaussians():
    """V = p sigma^2 / D^2, and the error with known centres is Phi(-D / 2 sigma)."""
    found = class_distance_normalized_variance(*gaussians(100_000))
    assert found.average == pytest.approx(8 / 36, rel=0.01)
    assert found.pairwise.diagonal().tolist() == [0, 0]
    x, y = gaussians(100_000, distance=2.0)
    report = few_shot_accuracy(x, y, ways=2, shots=5000, queries=2000, episodes=20, head="nearest-centre")
    assert report.accuracy == pytest.approx(0.5 * (1 + math.erf(1 / math.sqrt(2))), abs=0.004)


def test_small_samples_are_corrected():
    """Averaged over many draws of five examples, the corrected ratio of moments is near the truth; the plain is not."""
    draws = [gaussians(5, distance=4.0, seed=s) for s in range(400)]
    plain = torch.tensor([class_distance_normalized_variance(*d).average for d in draws])
    fair = torch.tensor([class_distance_normalized_variance(*d, unbiased=True).average for d in draws])
    assert abs(float(fair.median()) - 0.5) < 0.05
    assert float(plain.median()) < 0.4


def test_invariances():
    x, y = torch.randn(60, 5, dtype=torch.float64), torch.arange(60) % 4
    x = x + 3 * torch.randn(4, 5)[y]
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))[0]
    first = class_distance_normalized_variance(x, y).pairwise
    torch.testing.assert_close(class_distance_normalized_variance(0.3 * x @ rotation + 1e4, y).pairwise, first)
    moments = ClassMoments()
    moments.update(x, y)
    mean = moments.means[1]
    wider = torch.where((y == 1)[:, None], mean + 3 * (x - mean), x)
    again = ClassMoments()
    again.update(wider, y)
    torch.testing.assert_close(again.variances / moments.variances, torch.tensor([1, 9, 1, 1]).double())
    torch.testing.assert_close(again.means, moments.means)


def test_one_pass_is_two_passes():
    x, y = torch.randn(97, 6, dtype=torch.float64) + 1e6, torch.randint(0, 5, (97,)) * 3
    moments = ClassMoments(scatter=True)
    for rows in torch.randperm(97).split(10):
        moments.update(x[rows], y[rows])
    assert moments.classes.tolist() == [0, 3, 6, 9, 12]
    scatter = torch.zeros(6, 6, dtype=torch.float64)
    for k, label in enumerate(moments.classes):
        own = x[y == label]
        torch.testing.assert_close(moments.means[k], own.mean(0))
        torch.testing.assert_close(moments.variances[k], (own - own.mean(0)).square().sum(1).mean())
        scatter += (own - own.mean(0)).T @ (own - own.mean(0)) / 97
    torch.testing.assert_close(moments.scatter, scatter)


def test_of_a_network_by_layer():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3))
    x, y = torch.randn(30, 4), torch.arange(30) % 3
    loader = [(x[:20], y[:20]), (x[20:], y[20:])]
    hidden = model[:2](x).detach()
    for layer, features in ((None, hidden), ("1", hidden), ("", None), ("0", model[0](x).detach())):
        features = model.eval()(x).detach() if features is None else features
        model.train()
        expected = class_distance_normalized_variance(features, y).average
        assert class_distance_normalized_variance(model, loader, layer).average == pytest.approx(expected)
    assert all(module.training for module in model.modules())


def test_means_that_coincide_are_reported():
    x = torch.tensor([[0.0], [2], [0], [2], [5], [7]])
    found = class_distance_normalized_variance(x, torch.tensor([0, 0, 1, 1, 2, 2]))
    assert math.isinf(found.average)
    assert found.pairwise[0, 2] == pytest.approx(2 / 50)
    assert "1 pair(s) coincide" in found.summary()


def test_the_bound():
    assert few_shot_bound(0.01, ways=5, shots=5, features=64) == pytest.approx(16 * 4 * 1.2 * 0.01)
    assert few_shot_bound(0.01, 5, 5, 64, spherical=True) == pytest.approx(16 * 4 * (1 / 64 + 0.2) * 0.01)
    x, y = gaussians(4000, p=8, distance=20.0)
    v = class_distance_normalized_variance(x, y).average
    error = 1 - few_shot_accuracy(x, y, ways=2, shots=5, head="nearest-centre").accuracy
    assert error <= few_shot_bound(v, 2, 5, 8, spherical=True) < 1


def test_refusals():
    x = torch.randn(4, 3)
    with pytest.raises(ValueError, match="two classes"):
        class_distance_normalized_variance(x, torch.zeros(4).long())
    with pytest.raises(ValueError, match="class 7 has one"):
        class_distance_normalized_variance(x, torch.tensor([1, 1, 1, 7]), unbiased=True)
    with pytest.raises(ValueError, match="whole numbers"):
        class_distance_normalized_variance(x, torch.randn(4))
    with pytest.raises(TypeError, match="loader"):
        class_distance_normalized_variance(nn.Linear(3, 2), torch.zeros(4).long())
    with pytest.raises(ValueError, match="ways"):
        few_shot_bound(0.1, 1, 5, 3)


def test_class_splits():
    data = Arrays(torch.arange(24.0).reshape(12, 2), torch.arange(12) % 6)
    first, second = split_classes(data, 2, 3, generator=torch.Generator().manual_seed(0))
    assert (len(first.y.unique()), len(second.y.unique())) == (2, 3)
    assert not set(first.y.tolist()) & set(second.y.tolist())
    with pytest.raises(ValueError, match="at most 6"):
        split_classes(data, 4, 3)
    images = Arrays(torch.randn(3, 1, 4, 4), torch.tensor([0, 1, 5]))
    turned = rotated_classes(images)
    assert turned.y.tolist() == [0, 4, 20, 1, 5, 21, 2, 6, 22, 3, 7, 23]
    torch.testing.assert_close(turned.x[3], torch.rot90(images.x[0], 1, (-2, -1)))
    with pytest.raises(ValueError, match="square"):
        rotated_classes(Arrays(torch.randn(3, 4, 5), torch.arange(3)))
