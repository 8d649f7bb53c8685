"""Label augmentation: where it equals simpler losses, what its two ways of predicting are, and its views."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import Arrays, Batches
from neurarium.learning import Backprop
from neurarium.objectives import (
    LDAM,
    ColorPermutations,
    Compose,
    InputTransforms,
    Rotations,
    SelfSupervisedLabelAugmentation,
    lift_to_views,
    widen_classifier,
)
from neurarium.training import fit

X, Y = torch.randn(5, 1, 6, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2, 1, 2, 0])


def network(outputs, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, outputs))


def test_with_factored_weights_it_is_two_tasks():
    """w_ij = u_i + v_j and b_ij = c_i + d_j: the joint loss is the sum of both cross-entropies."""
    joint = SelfSupervisedLabelAugmentation(Rotations(), 3)
    two = SelfSupervisedLabelAugmentation(Rotations(), 3, mode="mt")
    apart, together = network(7), network(12)
    together[1].load_state_dict(apart[1].state_dict())
    for name in ("weight", "bias"):
        rows = getattr(apart[3], name).data
        getattr(together[3], name).data = (rows[:3, None] + rows[None, 3:]).flatten(0, 1)
    x, y = joint.augment_batch(X, Y)
    torch.testing.assert_close(joint(together(x), y), two(apart(x), y))


def test_one_view_is_plain_training():
    sla = SelfSupervisedLabelAugmentation(InputTransforms(), 3)
    model = network(3)
    x, y = sla.augment_batch(X, Y)
    loss = sla(model(x), y)
    loss.backward()
    found = model[1].weight.grad.clone()
    model.zero_grad()
    plain = cross_entropy(model(X), Y)
    plain.backward()
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(found, model[1].weight.grad)
    torch.testing.assert_close(sla.predict(model, X, "aggregate"), sla.predict(model, X))


@pytest.mark.parametrize("mode", ["sla", "sla+sd", "mt", "da"])
def test_a_widened_network_starts_as_it_was(mode):
    narrow = network(3)
    sla = SelfSupervisedLabelAugmentation(Rotations(), 3, mode=mode)
    wide = widen_classifier(narrow, sla)
    assert narrow[3].out_features == 3
    torch.testing.assert_close(sla.predict(wide, X), narrow(X))
    if mode == "sla":
        own = SelfSupervisedLabelAugmentation(InputTransforms([lambda x: x] * 3), 3)
        x, y = own.augment_batch(X, Y)
        torch.testing.assert_close(own(wide(x), y), cross_entropy(narrow(X), Y) + math.log(4))
    if mode == "sla+sd":
        torch.testing.assert_close(sla.predict(wide, X, "distilled"), narrow(X))


def test_the_aggregate_takes_each_views_own_column():
    sla = SelfSupervisedLabelAugmentation(Rotations(), 3)
    model = network(12)
    expected = torch.zeros(5, 3)
    for j in range(4):
        logits = model(torch.rot90(X, j, (-2, -1)))
        for i in range(3):
            expected[:, i] += logits[:, i * 4 + j] / 4
    torch.testing.assert_close(sla.predict(model, X, "aggregate"), expected)
    torch.testing.assert_close(sla.predict(model, X), model(X)[:, ::4])


def test_the_aggregate_of_a_network_that_ignores_rotation_does_too():
    class Upright(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network(3)

        def forward(self, x):
            turned = torch.stack([torch.rot90(x, j, (-2, -1)) for j in range(4)], 1)
            best = turned[..., 0, 0].flatten(2).sum(2).argmax(1)  # the brightest corner on the upper left
            return self.inner(turned[torch.arange(len(x)), best]).repeat_interleave(4, 1)

    sla = SelfSupervisedLabelAugmentation(Rotations(), 3)
    model = Upright()
    first, second = sla.predict(model, X, "aggregate"), sla.predict(model, torch.rot90(X, 1, (-2, -1)), "aggregate")
    torch.testing.assert_close(first, second)


def test_the_teacher_is_not_taught():
    sla = SelfSupervisedLabelAugmentation(Rotations(), 3, mode="sla+sd", distill_weight=0.0)
    logits = torch.randn(20, 15, requires_grad=True)
    joint = sla.augment_batch(X, Y)[1]
    extra = sla._distillation(logits, joint)
    extra.backward()
    assert float(logits.grad[:, :12].abs().max()) == 0
    rows = logits.grad[:, 12:].abs().sum(1).view(5, 4)
    assert bool((rows[:, 1:] == 0).all())
    assert bool((rows[:, 0] > 0).all())
    with torch.no_grad():
        logits[::4, 12:] = sla.aggregate(logits)
    agreed = logits.detach().requires_grad_()
    extra = sla._distillation(agreed, joint)
    extra.backward()
    assert float(extra.detach()) == pytest.approx(0, abs=1e-6)
    assert float(agreed.grad.abs().max()) < 1e-6


def test_views():
    image = torch.randn(1, 3, 5, 5)
    both = Compose(Rotations(), ColorPermutations())
    views = both(image)[0]
    assert both.num == 24
    torch.testing.assert_close(views[0], image[0])
    torch.testing.assert_close(views[7], torch.rot90(image, 1, (-2, -1))[0][[0, 2, 1]])  # rotation 1, order 1
    different = (views[:, None] != views[None]).flatten(2).any(2)
    assert int(different.sum()) == 24 * 23
    four = image
    for _ in range(4):
        four = Rotations()(four)[:, 1]
    torch.testing.assert_close(four, image)
    assert Rotations(2)(torch.randn(2, 1, 3, 7)).shape == (2, 2, 1, 3, 7)
    reversal = InputTransforms([lambda x: x.flip(-1), lambda x: -x])
    assert reversal(torch.randn(2, 9)).shape == (2, 3, 9)


def test_lifted_losses_and_sums():
    counts = lift_to_views((40, 10, 5), 4)
    assert counts.tolist() == [40] * 4 + [10] * 4 + [5] * 4
    sla = SelfSupervisedLabelAugmentation(Rotations(), 3, base_loss=LDAM(counts))
    x, y = sla.augment_batch(X, Y)
    logits = network(12)(x).tanh()
    torch.testing.assert_close(sla(logits, y), LDAM(counts)(logits, y))
    total = SelfSupervisedLabelAugmentation(Rotations(), 3, view_reduction="sum")
    mean = SelfSupervisedLabelAugmentation(Rotations(), 3)
    torch.testing.assert_close(total(logits, y), 4 * mean(logits, y))


def test_it_trains_in_the_shared_loop_and_predicts_as_a_module():
    sla = SelfSupervisedLabelAugmentation(Rotations(), 3, mode="sla+sd")
    model = widen_classifier(network(3), sla)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = fit(Backprop(model, sla), sla.batches(Batches(Arrays(X, Y), 5)), optimizer, epochs=200)
    assert losses[-1] < losses[0] / 5
    for how in ("single", "aggregate", "distilled"):
        assert torch.equal(sla.predictor(model, how)(X).argmax(1), Y)
    assert set(sla.predictor(model).state_dict()) == {f"model.{name}" for name in model.state_dict()}


def test_refusals():
    sla = SelfSupervisedLabelAugmentation(Rotations(), 10)
    with pytest.raises(ValueError, match="returns 10 outputs; sla with 4 transformations and 10 classes needs 40"):
        sla.predict(network(10), X)
    with pytest.raises(ValueError, match="square"):
        Rotations()(torch.randn(2, 1, 3, 4))
    with pytest.raises(ValueError, match="colours"):
        ColorPermutations()(X)
    with pytest.raises(ValueError, match="labels must be from 0 to 9"):
        sla.augment_batch(X, Y + 9)
    with pytest.raises(ValueError, match="student"):
        sla.predict(network(40), X, "distilled")
    with pytest.raises(ValueError, match="mode"):
        SelfSupervisedLabelAugmentation(Rotations(), 3, mode="both")
    with pytest.raises(ValueError, match="it has none"):
        widen_classifier(network(3), sla)
    with pytest.raises(ValueError, match="all 4 views"):
        sla(torch.randn(6, 40), torch.arange(6))
    with pytest.raises(ValueError, match="view 1 has the shape"):
        InputTransforms([lambda x: x[:, :2]])(torch.randn(2, 5))
