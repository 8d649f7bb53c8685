"""Accuracy by number of neighbours and error by number of items, against scikit-learn and hand-made cases."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from neurarium.data import load
from neurarium.probes import MemoryScaling, knn_accuracy_curve, memory_scaling


def digits():
    split = load("digits")
    x, y = split.train.x.float().flatten(1), split.train.y
    return x[:500], y[:500], split.test.x.float().flatten(1)[:150], split.test.y[:150]


def test_one_neighbour_is_scikit_learns():
    x, y, queries, truth = digits()
    peer = KNeighborsClassifier(1, metric="cosine", algorithm="brute").fit(x.numpy(), y.numpy())
    curve = knn_accuracy_curve(x, y, queries, truth, k=20)
    assert curve.accuracies[0] == pytest.approx(peer.score(queries.numpy(), truth.numpy()))
    assert len(curve.accuracies) == 20
    assert curve.best == max(curve.accuracies)
    with pytest.raises(ValueError, match="k must be between 1 and"):
        knn_accuracy_curve(x, y, queries, truth, k=501)


def test_error_falls_with_memory_and_a_smaller_memory_is_part_of_a_larger():
    x, y, queries, truth = digits()
    found = memory_scaling(x, y, queries, truth, [20, 100, 500], generator=torch.Generator().manual_seed(0))
    assert found.errors[0] > found.errors[1] > found.errors[2]
    whole = knn_accuracy_curve(x, y, queries, truth, k=10)
    assert found.errors[2] == pytest.approx(1 - whole.accuracies[-1])
    again = memory_scaling(x, y, queries, truth, [100], generator=torch.Generator().manual_seed(0))
    assert again.errors[0] == found.errors[1]
    with pytest.raises(ValueError, match="sizes must increase"):
        memory_scaling(x, y, queries, truth, [100, 50])


def test_the_exponent_of_a_power_law_is_found():
    sizes = (10, 100, 1000, 10_000)
    assert MemoryScaling(sizes, tuple(0.8 * n**-0.3 for n in sizes)).exponent == pytest.approx(-0.3)
    logs = MemoryScaling(sizes, tuple(0.8 * np.log10(n) ** -1.7 for n in sizes))
    assert logs.log_exponent == pytest.approx(-1.7)
    assert np.isnan(MemoryScaling((10, 100), (0.1, 0.0)).exponent)
