"""OPERA against closed forms, a step written out by hand, and its limiting cases."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from neurarium.data import Arrays, Batches
from neurarium.objectives import HierarchicalSupervision, MomentumEncoder, OmniSupervised, SupervisionLevel
from neurarium.probes import few_shot_accuracy, linear_probe, supervision_conflict
from neurarium.probes.signals._supervision_conflict import opposed_pairs
from neurarium.training import fit


def make(seed=0, classes=3, **options):
    torch.manual_seed(seed)
    backbone = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 6))
    return OmniSupervised(backbone, 6, classes, projection_dim=5, hidden_dim=7, **options)


def batch(n=10, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 8, generator=g), torch.randn(n, 8, generator=g), torch.arange(n) % 3


def gradients(module):
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def moco_v3(opera, view1, view2, momentum, tau):
    """A step of MoCo v3, written out, on deep copies of the same parts."""
    backbone, projector, predictor = (copy.deepcopy(m) for m in (opera.backbone, opera.projector, opera.predictor))
    slow = copy.deepcopy(opera.slow)
    base = [*backbone.parameters(), *projector.parameters()]
    with torch.no_grad():
        for slow_p, p in zip(slow.parameters(), base, strict=True):
            slow_p.mul_(momentum).add_((1 - momentum) * p)
        k1, k2 = slow(view1), slow(view2)

    def contrast(q, k):
        logits = normalize(q, dim=1) @ normalize(k, dim=1).T / tau
        return 2 * tau * cross_entropy(logits, torch.arange(len(q)))

    q1, q2 = predictor(projector(backbone(view1))), predictor(projector(backbone(view2)))
    loss = contrast(q1, k2) + contrast(q2, k1)
    loss.backward()
    return loss.detach(), [p.grad for p in [*base, *predictor.parameters()]]


@pytest.mark.parametrize("hierarchy", ["self->full", "shared"])
def test_without_labels_weight_it_is_moco_v3(hierarchy):
    opera = make(full_weight=0.0, self_weight=1.0, momentum=0.9, temperature=0.3, hierarchy=hierarchy)
    with torch.no_grad():
        for p in opera.slow.parameters():  # as after some steps
            p.add_(0.1)
    view1, view2, y = batch()
    expected, grads = moco_v3(opera, view1, view2, 0.9, 0.3)
    loss = opera(view1, view2, y)
    torch.testing.assert_close(loss.detach(), expected)
    loss.backward()
    own = [*opera.backbone.parameters(), *opera.projector.parameters(), *opera.predictor.parameters()]
    for p, g in zip(own, grads, strict=True):
        torch.testing.assert_close(p.grad, g)


def test_without_contrast_it_is_classification_through_the_stack():
    opera = make(self_weight=0.0)
    view1, view2, y = batch()
    twin = copy.deepcopy(opera)
    opera(view1, view2, y).backward()
    level = twin.supervision.levels[1]
    stack = nn.Sequential(twin.backbone, twin.projector, twin.predictor, level.projector, level.head)
    (0.5 * (cross_entropy(stack(view1), y) + cross_entropy(stack(view2), y))).backward()
    found, expected = gradients(opera), gradients(twin)
    for name, g in expected.items():
        torch.testing.assert_close(found[name], g, atol=1e-6, rtol=1e-5)
    assert set(expected) >= {"backbone.0.weight", "projector.0.weight", "predictor.0.weight"}


def test_weights_add_up_and_views_are_symmetric():
    view1, view2, y = batch()
    opera = make(self_weight=0.3, full_weight=0.7, momentum=1.0)
    loss = opera(view1, view2, y)
    instances, labels = opera.last["instances"], opera.last["labels"]
    torch.testing.assert_close(loss.detach(), 2 * (0.3 * instances + 0.7 * labels))
    torch.testing.assert_close(opera(view2, view1, y), loss)
    opera(view1, view2, y[torch.randperm(len(y))])
    torch.testing.assert_close(opera.last["instances"], instances)  # labels change the classification alone
    assert not torch.allclose(opera.last["labels"], labels)


def test_the_reverse_hierarchy_on_identities_is_the_shared_one():
    shared, reverse = make(hierarchy="shared"), make(hierarchy="full->self")
    reverse.supervision.levels[1].projector = nn.Identity()
    reverse.slow = MomentumEncoder(reverse._key_path())
    reverse.load_state_dict(
        {k: v for k, v in shared.state_dict().items() if "levels" not in k and "slow" not in k}, strict=False
    )
    reverse.supervision.levels[0].head.load_state_dict(shared.supervision.levels[1].head.state_dict())
    reverse.slow.module.backbone.load_state_dict(shared.slow.module.backbone.state_dict())
    reverse.slow.module.projections[0].load_state_dict(shared.slow.module.projections[0].state_dict())
    torch.testing.assert_close(reverse(*batch()), shared(*batch()))


def test_the_momentum_side():
    still = make(momentum=1.0)
    before = [p.clone() for p in still.slow.parameters()]
    optimizer = torch.optim.SGD(still.parameters(), 0.5)
    for _ in range(3):
        optimizer.zero_grad()
        still(*batch()).backward()
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, still.slow.parameters(), strict=True))
    assert all(p.grad is None for p in still.slow.parameters())
    found = still.losses(*batch())
    assert not any(key.requires_grad for key in found.keys)
    risen = make(momentum=0.5, total_steps=2)
    for p in risen.backbone.parameters():
        p.data += 1
    start = risen.slow.module.backbone[0].weight.clone()
    risen.follow()  # m(0) = .5
    torch.testing.assert_close(risen.slow.module.backbone[0].weight, start + 0.5)
    risen.follow()  # m(1) = .75
    torch.testing.assert_close(risen.slow.module.backbone[0].weight, start + 0.625)
    risen.follow()  # m(2) = 1, and for ever
    risen.follow()
    torch.testing.assert_close(risen.slow.module.backbone[0].weight, start + 0.625)
    fresh = make(seed=1, momentum=0.5, total_steps=2)
    fresh.load_state_dict(risen.state_dict())
    assert int(fresh.steps) == 4


def test_a_contrast_among_equals_is_the_logarithm():
    opera = make(temperature=0.5)
    opera.predictor[-1] = Ones()
    opera.slow.module.projections = Ones()
    view1, view2, y = batch()
    assert float(opera.losses(view1, view2, y).instances) == pytest.approx(2 * 0.5 * math.log(10), rel=1e-5)


class Ones(nn.Module):
    """The same row for everybody."""

    def forward(self, x):
        return torch.ones(len(x), 5) + 0 * x.sum()


def test_images_without_labels_are_contrasted_alone():
    opera = make(momentum=1.0)
    view1, view2, y = batch()
    half = torch.where(torch.arange(10) < 4, y, -1)
    found = opera.losses(view1, view2, half)
    torch.testing.assert_close(found.instances, opera.losses(view1, view2, y).instances)
    logits = opera.supervision.represent(found.representations[0])[1][1]
    logits2 = opera.supervision.represent(found.representations[1])[1][1]
    expected = (cross_entropy(logits[:4], y[:4]) + cross_entropy(logits2[:4], y[:4])) / 2
    torch.testing.assert_close(found.labels[0], expected)
    none = opera.losses(view1, view2, torch.full((10,), -1))
    assert float(none.labels[0].detach()) == 0


@pytest.mark.parametrize("hierarchy", ["self->full", "full->self", "shared"])
def test_several_sets_of_classes_are_stacked_from_fine_to_coarse(hierarchy):
    view1, view2, y = batch()
    opera = make(classes=[3, 2], hierarchy=hierarchy)
    found = opera.losses(view1, view2, [y, y // 2])
    assert len(found.labels) == 2
    assert opera.class_logits(view1).shape == (10, 3)
    opera(view1, view2, [y, y // 2]).backward()
    assert all(p.grad is not None for name, p in opera.named_parameters() if not name.startswith("slow."))
    with pytest.raises(ValueError, match="one tensor per set of classes, 2"):
        opera(view1, view2, y)


def test_levels_of_ones_own():
    torch.manual_seed(0)
    lower, upper, head = nn.Linear(8, 4), nn.Linear(4, 4), nn.Linear(4, 3)
    levels = [SupervisionLevel(lower, lambda o, t: (o - t).square().mean(), weight=2.0),
              SupervisionLevel(upper, cross_entropy, head)]  # fmt: skip
    x, _, y = batch()
    target = torch.randn(10, 4)
    expected = 2 * (lower(x) - target).square().mean() + cross_entropy(head(upper(lower(x))), y)
    torch.testing.assert_close(HierarchicalSupervision(levels)(x, [target, y]), expected)
    with pytest.raises(ValueError, match="one per level, 2, not 1"):
        HierarchicalSupervision(levels)(x, [y])
    with pytest.raises(ValueError, match="at least one"):
        HierarchicalSupervision([])


def test_a_layer_of_a_classifier_is_the_feature():
    torch.manual_seed(0)
    classifier = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    opera = OmniSupervised(classifier, 4, 10, layer="1", projection_dim=4, hidden_dim=4)
    x = torch.randn(6, 1, 9, 9)
    torch.testing.assert_close(opera.features(x), classifier[:3](x))
    optimizer = torch.optim.Adam(opera.parameters(), 1e-2)
    before = classifier[0].weight.clone()
    losses = fit(opera, Batches(Arrays(x.repeat(4, 1, 1, 1), torch.arange(24) % 10), 8), optimizer, epochs=3)
    assert losses[-1] < losses[0]
    assert not torch.equal(before, classifier[0].weight)


def test_the_conflict_of_hand_made_gradients():
    keys = torch.eye(2).repeat_interleave(2, 0)  # two images of one class, and two of another
    target, towards = torch.tensor([0, 0, 1, 1]), torch.tensor([[1.0, 0]] * 2 + [[0, 1.0]] * 2)
    assert opposed_pairs(towards, -towards, keys, target, 4) == (1, 1)  # labels pull, instances push
    assert opposed_pairs(-towards, -towards, keys, target, 4) == (1, 0)
    assert opposed_pairs(towards, towards, keys, target, 4) == (0, 0)
    mixed = torch.cat([towards[:2], -towards[2:]])
    assert opposed_pairs(mixed, -towards, keys, target, 4) == (1, 0.5)
    assert math.isnan(opposed_pairs(towards, towards, keys, torch.tensor([0, 1, 2, -1]), 4)[1])


def test_the_conflict_is_that_of_autograd_and_leaves_no_trace():
    opera = make(hierarchy="shared")
    view1, view2, y = batch()
    state = copy.deepcopy(opera.state_dict())
    report = supervision_conflict(opera, view1, view2, y)
    assert all(torch.equal(v, state[k]) for k, v in opera.state_dict().items())
    assert all(p.grad is None for p in opera.parameters())
    found = opera.losses(view1, view2, y)
    norms = [
        torch.cat(torch.autograd.grad(loss, found.representations, retain_graph=True)).norm(dim=1).mean()
        for loss in (found.instances, found.labels[0])
    ]
    assert report.norm_ratio == pytest.approx(float(norms[1] / norms[0]), rel=1e-4)
    both = []
    for part in ("instances", "labels"):
        opera.zero_grad()
        value = getattr(opera.losses(view1, view2, y), part)
        (value if part == "instances" else value[0]).backward()
        both.append(torch.cat([p.grad.flatten() for p in opera.backbone.parameters()]))
    assert report.backbone_cosine == pytest.approx(float(torch.cosine_similarity(both[0], both[1], dim=0)), abs=1e-5)
    assert report.cosines.shape == (20,)
    assert "opposed" not in report.summary()
    with pytest.raises(ValueError, match="label"):
        supervision_conflict(opera, view1, view2, torch.full((10,), -1))


def test_a_linear_probe_is_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    g = torch.Generator().manual_seed(0)
    y = torch.arange(300) % 3 + 4
    x = torch.randn(300, 5, generator=g, dtype=torch.float64) + torch.eye(5, dtype=torch.float64)[y - 4]
    report = linear_probe(x[:200], y[:200], x[200:], y[200:], l2=1e-3)
    scaled = (x - x[:200].mean(0)) / x[:200].std(0)
    peer = LogisticRegression(C=1 / (2e-3 * 200), tol=1e-10, max_iter=1000).fit(scaled[:200].numpy(), y[:200].numpy())
    assert report.accuracy == pytest.approx(peer.score(scaled[200:].numpy(), y[200:].numpy()), abs=1e-9)
    assert report.train_accuracy == pytest.approx(peer.score(scaled[:200].numpy(), y[:200].numpy()), abs=1e-9)
    assert report.classes == 3
    assert few_shot_accuracy(x, y, ways=3, shots=5, queries=5, episodes=20).accuracy > 0.4
    with pytest.raises(ValueError, match="two classes"):
        linear_probe(x, torch.zeros(300, dtype=torch.long), x, y)
    with pytest.raises(ValueError, match="one width"):
        linear_probe(x, y, x[:, :2], y)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"hierarchy": "both"}, "hierarchy must be one of"),
        ({"momentum": 1.5}, "momentum"),
        ({"temperature": 0.0}, "temperature"),
        ({"projector_layers": 0}, "projector_layers"),
    ],
)
def test_refused_arguments(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(**arguments)


def test_refused_batches():
    view1, view2, y = batch()
    with pytest.raises(ValueError, match="from 0 to 2, or -1, not 0 to 3"):
        make()(view1, view2, torch.where(y == 2, 3, y))
    with pytest.raises(ValueError, match="10, 9, 10"):
        make()(view1, view2[:9], y)
    with pytest.raises(ValueError, match="at least 2"):
        make()(view1[:1], view2[:1], y[:1])
    with pytest.raises(ValueError, match=r"gives \[6\] per example, but feature_dim is 7"):
        OmniSupervised(nn.Linear(8, 6), 7, 3, projection_dim=4, hidden_dim=4)(view1, view2, y)
