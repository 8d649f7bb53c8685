"""Losses for long tails against hand-made sums; subsets; the classifier trained again."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import Arrays, Batches, long_tailed_counts, long_tailed_subset
from neurarium.layers import NormalizedLinear
from neurarium.learning import retrain_classifier
from neurarium.objectives import LDAM, DeferredReweighting, LogitAdjustment, class_balanced_weights

LOGITS, Y = torch.randn(9, 3, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 3


def test_ldam_is_cross_entropy_with_a_margin():
    cosines = LOGITS.tanh()
    loss = LDAM((625, 81, 1), max_margin=0.5, scale=10.0)
    margins = torch.tensor([0.1, 0.5 / 3, 0.5])
    moved = cosines.clone()
    moved[torch.arange(9), Y] -= margins[Y]
    torch.testing.assert_close(loss(cosines, Y), cross_entropy(10 * moved, Y))
    plain = LDAM((5, 5, 5), max_margin=0.0, scale=1.0)
    torch.testing.assert_close(plain(cosines, Y), cross_entropy(cosines, Y))


def test_logit_adjustment_shifts_by_the_log_prior():
    prior = torch.tensor([0.7, 0.2, 0.1])
    loss = LogitAdjustment((70, 20, 10))
    torch.testing.assert_close(loss(LOGITS, Y), cross_entropy(LOGITS + prior.log(), Y))
    torch.testing.assert_close(LogitAdjustment((4, 4, 4))(LOGITS, Y), cross_entropy(LOGITS, Y))


def test_class_balanced_weights():
    torch.testing.assert_close(class_balanced_weights((50, 5, 1), beta=0.0), torch.ones(3))
    towards_inverse = class_balanced_weights((50, 5, 1), beta=1 - 1e-9)
    torch.testing.assert_close(towards_inverse[2] / towards_inverse[0], torch.tensor(50.0), rtol=1e-4, atol=0)
    raw = torch.tensor([(1 - 0.9) / (1 - 0.9**n) for n in (3, 2)])
    torch.testing.assert_close(class_balanced_weights((3, 2), beta=0.9), raw / raw.mean())


def test_weights_set_in_late_and_the_count_is_saved():
    loss = DeferredReweighting((40, 8, 2), start=2, beta=0.99)
    weighted = cross_entropy(LOGITS, Y, class_balanced_weights((40, 8, 2), 0.99))
    for _ in range(2):
        torch.testing.assert_close(loss(LOGITS, Y), cross_entropy(LOGITS, Y))
    later = DeferredReweighting((40, 8, 2), start=2, beta=0.99)
    later.load_state_dict(loss.state_dict())
    for each in (loss, later):
        torch.testing.assert_close(each(LOGITS, Y), weighted)
    fresh = DeferredReweighting((40, 8, 2), start=1).eval()
    for _ in range(3):  # evaluation does not count
        torch.testing.assert_close(fresh(LOGITS, Y), cross_entropy(LOGITS, Y))
    with_margin = DeferredReweighting((40, 8, 2), 0, LDAM((40, 8, 2), reduction="none"), 0.99)
    expected = LDAM((40, 8, 2), weight=class_balanced_weights((40, 8, 2), 0.99))
    torch.testing.assert_close(with_margin(LOGITS.tanh(), Y), expected(LOGITS.tanh(), Y))
    with pytest.raises(ValueError, match='reduction="none"'):
        DeferredReweighting((40, 8, 2), 0, cross_entropy)(LOGITS, Y)


def test_cosines():
    layer = NormalizedLinear(4, 3)
    x = torch.randn(5, 4)
    expected = nn.functional.cosine_similarity(x[:, None], layer.weight[None], dim=2)
    torch.testing.assert_close(layer(x), expected)
    assert float(layer(torch.zeros(1, 4)).abs().max()) == 0


def test_counts_and_subsets():
    counts = long_tailed_counts(10, 500, 100)
    assert counts == [int(500 * 0.01 ** (k / 9) + 1e-6) for k in range(10)]
    assert counts[0] == 500
    assert counts[-1] == 5
    assert long_tailed_counts(5, 100, 10, "step") == [100, 100, 100, 10, 10]
    labels = torch.tensor([2, 5, 9]).repeat(40)
    rows = long_tailed_subset(labels, 10, seed=3)
    assert torch.equal(rows, long_tailed_subset(labels, 10, seed=3))
    assert labels[rows].unique(return_counts=True)[1].tolist() == [40, 12, 4]
    assert len(rows.unique()) == len(rows)
    with pytest.raises(ValueError, match="class 5 has 2 examples"):
        long_tailed_subset(torch.tensor([2] * 40 + [5] * 2), 2)
    with pytest.raises(ValueError, match="imbalance"):
        long_tailed_counts(3, 10, 0.5)
    with pytest.raises(ValueError, match="kind"):
        long_tailed_counts(3, 10, 2, "linear")


def test_retraining_moves_the_boundary_and_nothing_else():
    """Two overlapping classes, 95 : 5. The re-trained layer stands near the optimum for equal priors."""
    generator = torch.Generator().manual_seed(0)
    y = torch.tensor([0] * 950 + [1] * 50)
    x = torch.randn(1000, 2, generator=generator) + 1.5 * y[:, None] * torch.tensor([1.0, 0.0])
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(300):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    before = copy.deepcopy(model.state_dict())
    recall = [(model.eval()(x).argmax(1)[y == k] == k).double().mean() for k in (0, 1)]
    retrain_classifier(model.train(), Batches(Arrays(x, y), 100), epochs=30, generator=generator)
    assert model.training
    again = [(model.eval()(x).argmax(1)[y == k] == k).double().mean() for k in (0, 1)]
    ideal = 0.5 * (1 + math.erf(0.75 / math.sqrt(2)))  # a boundary half-way
    assert float(recall[1]) < 0.5
    assert float(again[0] + again[1]) / 2 == pytest.approx(ideal, abs=0.06)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == (not name.startswith("1."))


@pytest.mark.parametrize("make", [LDAM, LogitAdjustment, class_balanced_weights])
def test_empty_classes_are_refused(make):
    with pytest.raises(ValueError, match="class_counts"):
        make((3, 0))
