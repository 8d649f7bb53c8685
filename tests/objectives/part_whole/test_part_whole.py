"""Wholes and parts against closed forms, DINO written out, and limiting cases."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity, mse_loss, normalize

from neurarium.objectives import (
    ComposeHead,
    PartWholeBatch,
    PartWholeObjective,
    PartWholeViews,
    PrototypeHead,
    SelfDistillation,
    coarse_to_fine,
    composition_loss,
    decomposition_loss,
)


def encoder():
    return nn.Sequential(nn.Conv2d(1, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def objective(seed=0, parts=4, **options):
    torch.manual_seed(seed)
    return PartWholeObjective(encoder(), 6, parts, 12, hidden_dim=8, bottleneck_dim=4, **options)


def batch(parts=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(5, 1, 32, 32, generator=g)
    return PartWholeViews(16, 8, parts, margin=0, generator=g)(x)


def gradients(module):
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def test_the_centre_is_a_running_mean():
    distillation, scores = SelfDistillation(4), torch.tensor([[0.5, -0.2, 0.1, 0.0], [0.7, 0.0, 0.1, 0.2]])
    for _ in range(5):
        distillation(scores[None], scores)
    torch.testing.assert_close(distillation.center, scores.mean(0) * (1 - 0.9**5))
    before = distillation.eval().center.clone()
    distillation(scores[None], scores)
    assert torch.equal(before, distillation.center)


def test_a_student_that_is_its_teacher_has_the_entropy():
    scores = torch.randn(6, 4)
    q = (scores / 0.1).softmax(1)
    found = SelfDistillation(4, teacher_temperature=0.1)(scores.repeat(3, 1, 1), scores)
    torch.testing.assert_close(found, -(q * q.log()).sum(1).mean())


def test_localizability_is_dino_with_one_view_of_the_teacher():
    model, views = objective(weights=(1.0, 0.0, 0.0), momentum=1.0), batch()
    model.distillation.center.copy_(torch.linspace(-0.1, 0.1, 12))
    head, backbone = copy.deepcopy(model.head), copy.deepcopy(model.backbone)
    center = model.distillation.center.clone()

    def scores(x):
        z = backbone(x)
        for layer in head.layers:
            z = layer(z)
        return normalize(z, dim=1) @ normalize(head.prototypes, dim=1).T

    teacher = ((scores(views.anchor).detach() - center) / 0.04).softmax(1)
    expected = 0.0
    for view in [views.centered, *views.local]:
        expected = expected - (teacher * (scores(view) / 0.1).log_softmax(1)).sum(1).mean() / 9
    loss = model(views)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    for p, q in zip(model.backbone.parameters(), backbone.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, atol=1e-6, rtol=1e-4)
    assert not any(name.startswith(("compose", "decompose", "teacher")) for name in gradients(model))


def test_composition_is_a_cosine():
    a, b = torch.randn(7, 5), torch.randn(7, 5)
    expected = (2 * (1 - cosine_similarity(a, b, dim=1)) / 5).mean()
    torch.testing.assert_close(composition_loss(a, b), expected)
    assert float(composition_loss(3 * a, a)) == pytest.approx(0, abs=1e-12)


def test_decomposition_by_part_is_a_cosine_and_jointly_has_short_slices():
    a, b = torch.randn(7, 4, 5), torch.randn(7, 4, 5)
    expected = (2 * (1 - cosine_similarity(a, b, dim=2)) / 5).mean()
    torch.testing.assert_close(decomposition_loss(a, b, joint=False), expected)
    flat = normalize(a.flatten(1), dim=1).unflatten(1, (4, 5))
    expected = sum(mse_loss(flat[:, p], normalize(b[:, p], dim=1)) for p in range(4)) / 4
    torch.testing.assert_close(decomposition_loss(a, b), expected)
    unit = normalize(b, dim=2)
    assert float(decomposition_loss(unit, b)) == pytest.approx((1 - 0.5) ** 2 / 5, rel=1e-5)  # slices of 1 / sqrt(4)


def test_the_order_of_parts_matters_to_the_head():
    head, parts, whole = ComposeHead(5, 4), torch.randn(7, 4, 5), torch.randn(7, 5)
    swapped = parts[:, [1, 0, 2, 3]]
    assert float((composition_loss(head(parts), whole) - composition_loss(head(swapped), whole)).abs()) > 1e-6
    with torch.no_grad():  # a symmetric one: the mean of positive embeddings
        head.layers[0].weight.copy_(torch.eye(5).repeat(1, 4) / 4)
        head.layers[2].weight.copy_(torch.eye(5))
        head.layers[0].bias.zero_()
        head.layers[2].bias.zero_()
    positive = parts.abs()
    torch.testing.assert_close(head(positive), positive.mean(1))
    torch.testing.assert_close(head(positive), head(positive[:, [2, 3, 0, 1]]))


def test_parts_and_wholes_meet_as_written():
    model, views = objective().eval(), batch()
    for p in model.teacher.parameters():
        p.data += 0.1 * torch.randn_like(p)
    found = model.losses(views)
    with torch.no_grad():
        whole, own = model.encoder(views.anchor), model.backbone(views.anchor)
        own_parts = torch.stack([model.backbone(part) for part in views.parts], 1)
        taught = torch.stack([model.encoder(part) for part in views.parts], 1)
        torch.testing.assert_close(found.composability, composition_loss(model.compose(own_parts), whole))
        torch.testing.assert_close(found.decomposability, decomposition_loss(model.decompose(own), taught))
    loss = model(views)
    torch.testing.assert_close(loss, found.localizability + found.composability + found.decomposability)
    loss.backward()
    assert all(p.grad is None for p in model.teacher.parameters())


@pytest.mark.parametrize(("weights", "dead"), [((1.0, 1.0, 0.0), "decompose"), ((1.0, 0.0, 1.0), "compose")])
def test_a_part_without_weight_has_no_gradient(weights, dead):
    model = objective(weights=weights)
    model(batch()).backward()
    assert all(float(g.abs().sum()) == 0 for name, g in gradients(model).items() if name.startswith(f"{dead}."))


def test_a_single_part_is_a_predictor_of_one_vector():
    model, views = objective(parts=1, joint=False), batch(parts=1)
    found = model.losses(views)
    with torch.no_grad():
        guess = model.decompose(model.backbone(views.anchor))[:, 0]
        cosine = cosine_similarity(guess, model.encoder(views.parts[0]), dim=1)
    torch.testing.assert_close(found.decomposability.detach(), (2 * (1 - cosine) / 6).mean())


def test_stages():
    model, views = objective(warm_up_steps=2, frozen_steps=1, momentum=0.5, total_steps=2), batch()
    start = model.encoder[0].weight.clone()
    model.backbone[0].weight.data += 1
    model(views).backward()
    assert model.head.prototypes.grad is None
    torch.testing.assert_close(model.encoder[0].weight, start + 0.5)
    model(views).backward()
    assert model.head.prototypes.grad is not None
    assert float(model.last["composability"]) == 0
    model(views)
    assert float(model.last["composability"]) > 0
    kept = model.encoder[0].weight.clone()
    model(views)  # the momentum has risen to 1
    assert torch.equal(kept, model.encoder[0].weight)
    assert [coarse_to_fine(step, (2, 1, 2)) for step in range(7)] == [0, 0, 1, 2, 2, 2, 2]


def test_views_of_a_ramp_are_where_they_should_be():
    ramp = torch.linspace(-1, 1, 65)[1::2] - 1 / 64
    x = torch.stack([ramp.expand(32, 32), ramp[:, None].expand(32, 32)])[None].repeat(6, 1, 1, 1)
    g = torch.Generator().manual_seed(0)
    views = PartWholeViews(16, 8, 4, rotation=0.0, jitter=0.0, margin=0, generator=g)
    found = views(x)
    middle = found.anchor.mean((2, 3))
    torch.testing.assert_close(middle, torch.zeros_like(middle), atol=0.05, rtol=0)
    for view in [found.centered, *found.local]:  # the same centre
        torch.testing.assert_close(view.mean((2, 3)), middle, atol=0.05, rtol=0)
    spread = torch.stack([view[:, 0].std((1, 2)).mean() for view in found.local])
    assert bool((spread.diff() > -0.05).all())
    assert float(spread[0]) < 0.5 * float(spread[-1])
    corners = found.parts.mean((3, 4))  # [parts, batch, 2]
    expected = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]])[:, None].expand(4, 6, 2)
    torch.testing.assert_close(corners, expected, atol=0.05, rtol=0)
    smaller = views(x, 1)
    assert float(smaller.anchor[:, 0].std((1, 2)).max()) < 0.6 * float(found.anchor[:, 0].std((1, 2)).min())
    places = smaller.anchor.mean((2, 3))
    assert float(places.std()) > 0.05
    assert float(places.abs().max()) < 0.53
    torch.testing.assert_close(smaller.parts.mean((0, 3, 4)), places, atol=0.05, rtol=0)


def test_pieces_keep_from_the_border_where_there_is_room():
    views = PartWholeViews(8, 8, margin=4)
    center, half = views._wholes(torch.zeros(500, 1, 32, 32), 1)
    assert float((center.abs() + half).max()) <= 1 - 2 * 4 / 32 + 1e-6
    tight, half = PartWholeViews(8, 8, margin=50)._wholes(torch.zeros(500, 1, 32, 32), 1)
    assert 0.9 < float((tight.abs() + half).max()) <= 1 + 1e-6


def test_prototypes_score_cosines():
    head = PrototypeHead(5, 7, 8, 3)
    scores = head(torch.randn(9, 5) * 100)
    assert float(scores.abs().max()) <= 1 + 1e-6
    head.prototypes.data *= 10
    assert float((head(torch.zeros(1, 5)).abs()).max()) <= 1 + 1e-6
    assert math.isclose(float(head.layers[0].bias.abs().sum()), 0.0)


def test_refusals():
    with pytest.raises(ValueError, match="power of 4"):
        PartWholeViews(num_parts=9)
    with pytest.raises(ValueError, match="too small for parts of 1/8"):
        PartWholeViews(8, 8)(torch.zeros(2, 1, 12, 12), 2)
    with pytest.raises(ValueError, match="4 parts, not 1"):
        objective()(batch(parts=1))
    with pytest.raises(ValueError, match="6 features per example, but feature_dim is 5"):
        PartWholeObjective(encoder(), 5, prototypes=4)(batch())
    with pytest.raises(ValueError, match="weights"):
        objective(weights=(1.0, -1.0, 0.0))
    with pytest.raises(ValueError, match="temperatures"):
        SelfDistillation(4, student_temperature=0.0)
    assert isinstance(batch(), PartWholeBatch)
