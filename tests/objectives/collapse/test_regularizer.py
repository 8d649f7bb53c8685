"""The two penalties against closed forms, a dense computation, and one exact step of the centres."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import Arrays, Batches
from neurarium.learning import Backprop
from neurarium.objectives import FeatureLoss, NeuralCollapseRegularizer
from neurarium.training import fit


def at(centers, **options):
    penalty = NeuralCollapseRegularizer(*centers.shape, **options).to(centers.dtype)
    penalty.centers.data = centers.clone()
    return penalty


def simplex(k, d):
    basis = torch.linalg.qr(torch.randn(d, k, dtype=torch.float64))[0]
    return (torch.eye(k, dtype=torch.float64) - 1 / k) @ basis.T * 3 + 5


@pytest.mark.parametrize(("k", "value"), [(4, -1.91063), (10, -1.68214), (100, -1.58090)])
def test_separation_of_a_simplex(k, value):
    centers = simplex(k, k + 3)
    for kind in ("mean_min_angle", "min_angle"):
        found = at(centers, separation_kind=kind).crowding().detach()
        assert float(found) == pytest.approx(-math.acos(-1 / (k - 1)), abs=1e-6)
        assert float(found) == pytest.approx(value, abs=1e-4)
    assert float(at(centers, separation_kind="simplex").crowding()) == pytest.approx(0, abs=1e-9)
    assert at(centers).angles().tolist() == pytest.approx([math.degrees(-value)] * k, abs=1e-2)


@pytest.mark.parametrize("kind", ["mean_min_angle", "min_angle", "simplex"])
def test_separation_does_not_see_rotation_shift_or_scale(kind):
    centers = torch.randn(6, 9, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(9, 9, dtype=torch.float64))[0]
    moved = 2.5 * centers @ rotation + torch.randn(9)
    values = [at(c, separation_kind=kind).crowding() for c in (centers, moved)]
    assert float(values[0]) == pytest.approx(float(values[1]), abs=1e-6)


def test_against_a_dense_computation():
    """Value and gradients as from the full matrices of distances and cosines."""
    centers = torch.randn(5, 7, dtype=torch.float64)
    features, y = torch.randn(20, 7, dtype=torch.float64), torch.randint(0, 4, (20,))  # class 4 is absent
    penalty = at(centers, compactness=0.3, separation=0.7)
    h = features.clone().requires_grad_()
    penalty(h, y).backward()

    mu, g = centers.clone().requires_grad_(), features.clone().requires_grad_()
    nc1 = sum((g[y == k] - mu[k]).square().sum(1).mean() for k in y.unique()) / 5
    m = mu - mu.mean(0)
    unit = m / m.norm(dim=1, keepdim=True)
    cosines = (unit @ unit.T).masked_fill(torch.eye(5, dtype=torch.bool), -1)
    nc2 = -cosines.max(1).values.clamp(-0.99999, 0.99999).acos().mean()
    total = 0.3 * nc1 + 0.7 * nc2
    total.backward()
    torch.testing.assert_close(penalty(features, y), total.detach(), check_dtype=False)
    torch.testing.assert_close(h.grad, g.grad)
    torch.testing.assert_close(penalty.centers.grad, mu.grad)


def test_one_step_at_half_the_classes_sets_the_centres_to_the_means():
    features, y = torch.randn(12, 4), torch.arange(12) % 3
    penalty = NeuralCollapseRegularizer(5, 4, compactness=0.02, separation=0.0, center_lr=2.5)
    before = penalty.centers.detach().clone()
    penalty(features, y).backward()
    penalty.step_centers()
    for k in range(3):
        torch.testing.assert_close(penalty.centers[k].detach(), features[y == k].mean(0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(penalty.centers[3:].detach(), before[3:])
    assert penalty.centers.grad is None


def test_duplicates_of_a_class_change_nothing():
    penalty = NeuralCollapseRegularizer(3, 4)
    x, y = torch.randn(6, 4), torch.tensor([0, 0, 1, 1, 2, 2])
    again = torch.cat([x, x[:2], x[:2]]), torch.cat([y, y[:2], y[:2]])
    torch.testing.assert_close(penalty.spread(x, y), penalty.spread(*again))
    balanced = (x - penalty.centers[y]).square().sum(1).mean()  # of equal classes: the plain centre loss
    torch.testing.assert_close(penalty.spread(x, y), balanced)


def test_without_weights_it_is_the_plain_loss_and_separation_never_reaches_the_features():
    model = nn.Linear(4, 3)
    x, y = torch.randn(6, 4), torch.arange(6) % 3
    with FeatureLoss(model, cross_entropy, NeuralCollapseRegularizer(3, 4, 0.0, 0.0)) as loss:
        torch.testing.assert_close(loss(model(x), y), cross_entropy(model(x), y))
    h = x.clone().requires_grad_()
    NeuralCollapseRegularizer(3, 4, 0.0, 1.0)(h, y).backward()
    assert float(h.grad.abs().max()) == 0


def test_it_collapses_a_network_and_saves_its_centres():
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    y = torch.tensor([0] * 30 + [1] * 7 + [2] * 3)
    arrays = Arrays(torch.randn(40, 4) + 3 * nn.functional.one_hot(y, 4), y)
    penalty = NeuralCollapseRegularizer(3, 16, 0.1, 1.0, center_lr=0.1)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    handle = penalty.attach(optimizer)
    with FeatureLoss(model, cross_entropy, penalty) as loss:
        fit(Backprop(model, loss), Batches(arrays, 10, shuffle=True), optimizer, epochs=60)
    handle.remove()
    assert float(penalty.angles().min()) > 110
    other = NeuralCollapseRegularizer(3, 16)
    other.load_state_dict(penalty.state_dict())
    torch.testing.assert_close(other.angles(), penalty.angles())


def test_the_optimizer_form_is_the_same_update():
    penalties = [at(torch.ones(3, 4).tril(), compactness=0.1, separation=1.0) for _ in range(2)]
    for penalty in penalties:
        penalty(torch.ones(3, 4), torch.arange(3)).backward()
    penalties[0].step_centers()
    penalties[1].center_optimizer().step()
    torch.testing.assert_close(penalties[0].centers, penalties[1].centers)


def test_refusals():
    with pytest.raises(ValueError, match="separation_kind"):
        NeuralCollapseRegularizer(3, 4, separation_kind="angle")
    with pytest.raises(ValueError, match="must not be negative"):
        NeuralCollapseRegularizer(3, 4, -0.1)
    with pytest.raises(ValueError, match="features have 5 dimensions, but feature_dim is 4"):
        NeuralCollapseRegularizer(3, 4)(torch.randn(2, 5), torch.tensor([0, 1]))
    with pytest.warns(UserWarning, match="no simplex in 4 dimensions"):
        NeuralCollapseRegularizer(10, 4)


def test_a_centre_on_the_mean_gives_no_nan():
    penalty = at(torch.zeros(3, 4), compactness=0.0, separation=1.0)
    penalty(torch.randn(3, 4), torch.arange(3)).backward()
    assert bool(penalty.centers.grad.isfinite().all())
