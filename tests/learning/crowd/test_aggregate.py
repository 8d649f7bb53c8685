"""Votes and Dawid-Skene against small cases that are known, and on a million labels."""

import pytest
import torch

from neurarium.learning import dawid_skene, majority_vote


def test_votes_and_ties():
    items, labels = torch.tensor([0, 0, 0, 1, 1, 3]), torch.tensor([1, 1, 0, 0, 2, 2])
    found = [majority_vote(items, labels, 4, 3, torch.Generator().manual_seed(s)).tolist() for s in range(30)]
    assert {row[0] for row in found} == {1}
    assert {row[1] for row in found} == {0, 2}
    assert {row[2] for row in found} == {-1}
    assert {row[3] for row in found} == {2}


def crowd(n, annotators, per_item, seed=0):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (n,), generator=g)
    accuracy = 0.4 + 0.55 * torch.rand(annotators, generator=g)
    items = torch.arange(n).repeat_interleave(per_item)
    who = torch.randint(0, annotators, (len(items),), generator=g)
    right = torch.rand(len(items), generator=g) < accuracy[who]
    wrong = (y[items] + torch.randint(1, 3, (len(items),), generator=g)) % 3
    return y, accuracy, items, who, torch.where(right, y[items], wrong)


def test_the_likelihood_never_falls_and_the_liar_is_found():
    y, accuracy, items, who, labels = crowd(2000, 20, 5)
    labels = torch.where(who == 7, (y[items] + 1) % 3, labels)
    found = dawid_skene(items, who, labels, 2000, 20, 3, smoothing=1e-9)
    gains = torch.tensor(found.log_likelihood).diff()
    assert float(gains.min()) > -1e-6
    assert float((found.labels == y).double().mean()) > float(
        (majority_vote(items, labels, 2000, 3) == y).double().mean()
    )
    assert float(found.confusion[7].diagonal().max()) < 0.05
    others = torch.arange(20) != 7
    estimated = found.confusion.diagonal(dim1=1, dim2=2).mean(1)
    assert float((estimated - accuracy)[others].abs().max()) < 0.1
    torch.testing.assert_close(found.confusion.sum(2), torch.ones(20, 3, dtype=torch.float64))


def test_one_step_by_hand():
    # two items, two annotators: shares of votes, then matrices, then posteriors
    items, who, labels = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 0])
    found = dawid_skene(items, who, labels, 2, 2, 2, iterations=1, smoothing=0.0 + 1e-12)
    share = torch.tensor([[1.0, 0.0], [0.5, 0.5]], dtype=torch.float64)
    prior = share.mean(0)
    first = torch.stack([share[0] / share.sum(0), share[1] / share.sum(0)])  # P(label | class), rows are labels
    second = torch.tensor([[1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    joint = prior * first[0] * second[0], prior * first[1] * second[0]
    expected = torch.stack([j / j.sum() for j in joint])
    torch.testing.assert_close(found.probabilities, expected, atol=1e-6, rtol=1e-6)


def test_a_million_labels():
    y, _, items, who, labels = crowd(200_000, 3000, 5)
    found = dawid_skene(items, who, labels, 200_000, 3000, 3, iterations=3)
    assert len(labels) == 1_000_000
    assert float((found.labels == y).double().mean()) > 0.9


def test_refusals():
    one = torch.tensor([0])
    with pytest.raises(ValueError, match="annotators must be from 0 to 1, not 2 to 2"):
        dawid_skene(one, one + 2, one, 1, 2, 2)
    with pytest.raises(ValueError, match="at least one"):
        dawid_skene(one[:0], one[:0], one[:0], 1, 1, 2)
