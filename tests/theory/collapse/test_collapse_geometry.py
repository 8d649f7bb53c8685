"""The closed form of neural collapse against proximal operators, brute force, and gradient descent."""

import math

import pytest
import torch

from neurarium.theory import DeepLinearUFM, collapse_geometry, critical_count
from neurarium.theory.collapse._scalar_problem import mode_sizes, threshold


def test_known_values():
    """Numbers found by minimising the objective directly."""
    one = collapse_geometry((8, 4, 2, 2), 5e-3, 5e-3)
    assert one.gram_w.diagonal().tolist() == pytest.approx([2.7484, 1.9200, 1.3342, 1.3342], abs=1e-4)
    assert one.wh.diagonal().tolist() == pytest.approx([0.9717, 0.9600, 0.9434, 0.9434], abs=1e-4)
    assert one.loss == pytest.approx(0.0374843, abs=1e-7)
    two = collapse_geometry((8, 4, 2, 2), 5e-3, 5e-3, depth=2)
    assert two.gram_w.diagonal().tolist() == pytest.approx([3.8929, 2.4126, 1.4798, 1.4798], abs=1e-4)
    assert two.loss == pytest.approx(0.0452533, abs=1e-7)
    three = collapse_geometry((8, 8, 8, 8), 5e-3, 5e-3, depth=3)
    assert three.gram_w[0, 0] == pytest.approx(4.5147, abs=1e-4)
    assert three.loss == pytest.approx(0.0666962, abs=1e-7)


def test_one_layer_is_soft_thresholding():
    """1/(2N) |Z - Y|^2 + sqrt(lambda lambda_H) |Z|_* shrinks the singular values sqrt(n_k) of Y by N sqrt(...)."""
    counts, decays = torch.tensor([30.0, 7.0, 2.0]).double(), (3e-3, 2e-2)
    shrink = 39 * math.sqrt(math.prod(decays))
    kept = (counts.sqrt() - shrink).clamp_min(0)
    found = collapse_geometry(counts.long(), *decays)
    torch.testing.assert_close(found.wh.diagonal(), kept / counts.sqrt())
    objective = (kept - counts.sqrt()).square().sum() / 78 + math.sqrt(math.prod(decays)) * kept.sum()
    assert found.loss == pytest.approx(float(objective), abs=1e-12)


@pytest.mark.parametrize("depth", [2, 3, 6])
def test_scalar_problem_against_a_grid(depth):
    grid = torch.linspace(0, 60, 2_000_001, dtype=torch.float64)
    for penalty in (1e-3, 0.1, 0.45, 0.52, 0.6, 0.7):
        best = grid[(1 / (grid**depth + 1) + penalty * grid).argmin()]
        assert float(mode_sizes(torch.tensor([penalty]), depth)) == pytest.approx(float(best), abs=5e-5)


def test_threshold():
    assert [threshold(m) for m in (1, 2, 3, 6)] == pytest.approx([1, 0.5, 0.52913, 0.63727], abs=1e-5)
    for depth in (2, 5):
        penalties = threshold(depth) * torch.tensor([1 - 1e-9, 1 + 1e-9], dtype=torch.float64)
        below, above = mode_sizes(penalties, depth)
        assert float(below) ** depth == pytest.approx(depth - 1, rel=1e-3)  # it jumps
        assert float(above) == 0


def descend(counts, *arguments, seeds=3, **options):
    """The best of several minimisations."""
    models = []
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        model = DeepLinearUFM(counts, *arguments, generator=generator, **options)
        models.append((model.minimise(800), model))
    return min(models, key=lambda pair: pair[0])


PROBLEMS = [
    {"counts": (8, 4, 2, 2), "decays": (5e-3, 5e-3), "depth": 1},
    {"counts": (8, 4, 2, 2), "decays": (5e-3, 5e-3), "depth": 2},
    {"counts": (9, 3, 1), "decays": (2e-3, 1e-2), "depth": 3},
    {"counts": (5, 5, 5), "decays": ([1e-3, 8e-3], 5e-3), "depth": 2},
    {"counts": (12, 4, 1), "decays": (3e-2, 1e-2), "depth": 2},  # the last two classes vanish
    {"counts": (8, 4, 3, 1), "decays": (5e-3, 5e-3), "depth": 2, "width": 3},
    {"counts": (8, 5, 3), "decays": (4e-3, 5e-3), "depth": 1, "width": 2},
    {"counts": (4, 4, 4, 4), "decays": (5e-3, 5e-3), "depth": 2, "bias": True},
    {"counts": (8, 4, 2, 2), "decays": (5e-3, 5e-3), "depth": 1, "bias": True},
    {"counts": (9, 4, 1), "decays": (5e-3, 4e-3), "depth": 3, "bias": True},
    {"counts": (4, 4, 4), "decays": (3e-3, 5e-3), "depth": 1, "loss": "cross-entropy", "bias": True},
    {"counts": (4, 4, 4), "decays": (2e-3, 2e-3), "depth": 2, "loss": "cross-entropy"},
]  # fmt: skip


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: f"{p['counts']}-{p['depth']}")
def test_descent_ends_at_the_prediction(problem):
    options = dict(problem)
    counts, decays, depth = options.pop("counts"), options.pop("decays"), options.pop("depth")
    expected = collapse_geometry(counts, *decays, depth, **options)
    loss, model = descend(counts, *decays, depth, features=options.pop("width", len(counts) + 2), **options)
    assert loss == pytest.approx(expected.loss, abs=1e-8)
    w, mu = model.classifier().detach(), model.class_means().detach()
    for measured, predicted in ((w @ w.T, expected.gram_w), (mu.T @ mu, expected.gram_h), (w @ mu, expected.wh)):
        torch.testing.assert_close(measured, predicted, atol=1e-4, rtol=1e-4)
    if model.bias is not None and model.loss == "mse":
        torch.testing.assert_close(model.bias.detach(), expected.bias, atol=1e-5, rtol=0)
    within = model.features - mu[:, model.target]
    assert float(within.detach().abs().max()) < 1e-4


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_never_above_random_restarts(depth):
    """No start of L-BFGS finds a lower objective."""
    expected = collapse_geometry((6, 3, 1), 6e-3, 8e-3, depth)
    found, _ = descend((6, 3, 1), 6e-3, 8e-3, depth, seeds=8)
    assert expected.loss <= found + 1e-10
    assert expected.loss == pytest.approx(found, abs=1e-7)


def test_the_prediction_is_stationary():
    """Autograd finds no slope where features and two layers are built from the prediction."""
    counts, decay = (8, 4, 2, 2), 5e-3
    expected = collapse_geometry(counts, decay, decay, depth=2)
    model = DeepLinearUFM(counts, decay, decay, depth=2)
    root = expected.gram_w.diagonal() ** 0.25
    with torch.no_grad():
        for layer in model.layers:
            layer.copy_(torch.diag(root))
        model.features.copy_(torch.diag(expected.gram_h.diagonal().sqrt())[:, model.target])
    loss = model.objective()
    loss.backward()
    assert float(loss) == pytest.approx(expected.loss, abs=1e-12)
    assert max(float(p.grad.abs().max()) for p in model.parameters()) < 1e-8


def test_collapsed_classes_and_the_safe_decay():
    found = collapse_geometry((100, 40, 4), 2e-2, 2e-3, depth=2)
    assert found.collapsed.tolist() == [False, False, True]
    assert found.safe_scale < 1
    scale = found.safe_scale
    assert not collapse_geometry((100, 40, 4), 2e-2 * scale * 0.999, 2e-3 * scale * 0.999, 2).collapsed.any()
    assert collapse_geometry((100, 40, 4), 2e-2 * scale * 1.001, 2e-3 * scale * 1.001, 2).collapsed[2]
    assert "[2]" in found.summary()
    assert 4 < critical_count(144, 2e-2, 2e-3, 2) < 40
    assert critical_count(16, 5e-3, 5e-3) == pytest.approx(16**2 * 25e-6)


def test_less_decay_fits_more():
    wh = [collapse_geometry((9, 2), decay, decay, 3).wh.diagonal() for decay in (1e-3, 1e-5, 1e-8)]
    assert bool((wh[0] < wh[1]).all())
    torch.testing.assert_close(wh[2], torch.ones(2).double(), atol=1e-4, rtol=0)


def test_deep_cross_entropy_can_go_below_the_simplex():
    """Four classes on the corners of a square need two singular values where the simplex needs three."""
    n, decay, depth = 5, 1e-7, 3
    simplex = collapse_geometry([n] * 4, decay, decay, depth, loss="cross-entropy").loss
    corners = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]).double()

    def square(scale):
        fit = torch.nn.functional.cross_entropy(scale * corners @ corners.T, torch.arange(4))
        return float(fit) + 2 * 2 * (decay**4 * (4 * scale) ** 2 * n) ** (1 / 4)

    assert min(square(scale) for scale in torch.linspace(1, 20, 200).tolist()) < simplex


def test_a_thousand_classes_at_once_are_as_each_alone():
    thresholds = 1e-2 / torch.arange(1, 1001).double()
    together = mode_sizes(thresholds, 3)
    for k in (0, 9, 499, 999):
        torch.testing.assert_close(together[k], mode_sizes(thresholds[k : k + 1], 3)[0])


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"class_counts": [3, 0], "weight_decay": 1e-3, "feature_decay": 1e-3}, "class 1 has 0"),
        ({"class_counts": [3], "weight_decay": 1e-3, "feature_decay": 1e-3}, "at least two"),
        ({"class_counts": [3, 3], "weight_decay": -1e-3, "feature_decay": 1e-3}, "weight_decay"),
        ({"class_counts": [3, 3], "weight_decay": [1e-3], "feature_decay": 1e-3, "depth": 2}, "per layer"),
        ({"class_counts": [3, 3], "weight_decay": 1e-3, "feature_decay": 0}, "feature_decay"),
        ({"class_counts": [3, 2], "weight_decay": 1e-3, "feature_decay": 1, "loss": "cross-entropy"}, "equal"),
        ({"class_counts": [3, 3], "weight_decay": 1e-3, "feature_decay": 1, "loss": "hinge"}, "loss"),
    ],
)  # fmt: skip
def test_refusals(arguments, word):
    with pytest.raises(ValueError, match=word):
        collapse_geometry(**arguments)
