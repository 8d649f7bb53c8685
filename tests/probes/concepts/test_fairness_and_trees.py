"""Fairness metrics, trees of prototypes and the causal link of concepts, on cases worked out by hand."""

import pytest
import torch

from neurarium.probes import (
    attribute_leakage,
    concept_slope,
    group_rates,
    mistake_cost,
    prototype_tree,
)


def test_rates_of_two_groups():
    groups = torch.arange(20) % 2
    predictions = torch.zeros(20, dtype=torch.long)
    predictions[[0, 2]] = 1  # 2 of 10
    predictions[[1, 3, 5, 7]] = 1  # 4 of 10
    found = group_rates(predictions, groups)
    assert found.rates == pytest.approx((0.2, 0.4))
    assert found.disparate_impact == pytest.approx(0.5)
    assert found.demographic_disparity == pytest.approx(0.2)
    assert group_rates(1 - predictions, groups, favourable=0).disparate_impact == pytest.approx(0.5)
    assert group_rates(torch.zeros(20, dtype=torch.long), groups).disparate_impact == 1.0


def test_leakage():
    generator = torch.Generator().manual_seed(0)
    attribute = (torch.rand(4000, generator=generator) < 0.3).long()
    noise = torch.randn(4000, 3, generator=generator)
    assert abs(attribute_leakage(noise, attribute).leakage) < 0.01
    shown = noise + attribute.unsqueeze(1) * torch.tensor([0.0, 8.0, 0.0])
    found = attribute_leakage(shown, attribute)
    assert found.accuracy > 0.99
    assert found.majority == pytest.approx(0.7, abs=0.03)
    assert found.leakage == pytest.approx(found.accuracy - found.majority)


def test_leakage_is_that_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    generator = torch.Generator().manual_seed(1)
    attribute = torch.randint(3, (600,), generator=generator)
    features = torch.randn(600, 4, generator=generator) + attribute.unsqueeze(1)
    x = ((features - features.mean(0)) / features.std(0)).numpy()
    reader = LogisticRegression(C=1e4).fit(x[:300], attribute[:300])
    expected = (reader.predict(x[300:]) == attribute[300:].numpy()).mean()
    assert attribute_leakage(features, attribute).accuracy == pytest.approx(expected, abs=0.011)


def tree():
    parity = torch.tensor([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    digit = torch.tensor([[-1.0, 0.5, 0.1], [1.0, 0.5, 0.0], [-1.0, -0.5, 0.0], [1.0, -0.5, 0.0]])
    return {"digit": digit, "parity": parity}


TRUE = {"parity 0": "root", "parity 1": "root", **{f"digit {d}": f"parity {d % 2}" for d in range(4)}}


def test_tree_of_prototypes():
    found = prototype_tree(tree())
    assert found.parents() == TRUE
    assert found.edit_distance(TRUE) == 0
    assert "parity 1: digit 1, digit 3" in found.summary()
    moved = tree()
    moved["digit"][1] = torch.tensor([-1.0, 0.0, 0.7])  # now with the other parent
    assert prototype_tree(moved).edit_distance(TRUE) == 2
    with pytest.raises(ValueError, match="different nodes"):
        found.edit_distance({"a": "root"})
    with pytest.raises(ValueError, match="4 prototypes but 1 names"):
        prototype_tree(tree(), {"digit": ["one"]})


def test_spanning_tree_is_scipys():
    from scipy.sparse.csgraph import minimum_spanning_tree

    points = torch.randn(15, 4, generator=torch.Generator().manual_seed(2))
    found = prototype_tree({"c": points})
    every = torch.cat([torch.zeros(1, 4), points])
    matrix = minimum_spanning_tree(torch.cdist(every, every).numpy()).tocoo()
    name = lambda i: "root" if i == 0 else f"c {i - 1}"  # noqa: E731
    pairs = zip(matrix.row, matrix.col, strict=True)
    assert found.edges == {frozenset((name(i), name(j))) for i, j in pairs}


def test_cost_of_mistakes():
    parents = [d % 2 for d in range(10)]
    targets = torch.tensor([0, 1, 2, 3])
    assert mistake_cost(torch.tensor([0, 1, 4, 3]), targets, parents).average_cost == 2
    assert mistake_cost(torch.tensor([1, 1, 2, 3]), targets, parents).average_cost == 4
    both = mistake_cost(torch.tensor([1, 3, 2, 5]), targets, parents)
    assert both.average_cost == pytest.approx((4 + 2 + 2) / 3)
    assert (both.mistakes, both.examples) == (3, 4)
    assert mistake_cost(targets, targets, parents).average_cost == 0


def test_slope_by_hand():
    z = torch.tensor([[0.5, 0.0], [0.2, 0.0]])
    targets = torch.tensor([1, 1])

    def first(v):
        return torch.stack([-v[:, 0], v[:, 0]], 1).log_softmax(1)

    def second(v):
        return torch.stack([-0.25 * v[:, 0], 0.25 * v[:, 0]], 1).log_softmax(1)

    found = concept_slope(z, targets, first, second, magnitude=0.5)
    step = 0.5 * 2 * (1 - torch.sigmoid(2 * z[:, 0]))  # d/dv of log sigmoid(2 v)
    moved = z[:, 0] + step
    for scale, change in ((2.0, found.first), (0.5, found.second)):
        expected = (torch.sigmoid(scale * moved) - torch.sigmoid(scale * z[:, 0])).mean()
        assert change == pytest.approx(float(expected), rel=1e-5)
    assert found.slope == pytest.approx(found.second / found.first)
    with pytest.raises(ValueError, match="2 latents for 1 targets"):
        concept_slope(z, targets[:1], first, second)
    with pytest.raises(ValueError, match="no step changes"):
        concept_slope(z, targets, first, second, magnitude=0.0)


@pytest.mark.parametrize(
    ("use", "sentence"),
    [
        (lambda: group_rates(torch.zeros(3), torch.zeros(4)), "3 predictions for 4"),
        (lambda: group_rates(torch.zeros(3), torch.zeros(3)), "at least two groups"),
        (lambda: attribute_leakage(torch.zeros(2, 1), torch.zeros(2).long()), "at least 4"),
        (lambda: prototype_tree({}), "at least one concept"),
        (lambda: mistake_cost(torch.zeros(2), torch.zeros(3), [0]), "2 predictions for 3"),
    ],
)
def test_bad_requests(use, sentence):
    with pytest.raises(ValueError, match=sentence):
        use()
