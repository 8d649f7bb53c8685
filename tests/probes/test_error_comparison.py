"""Classifiers over many data sets: against numbers made by hand, and against scipy."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.stats import wilcoxon

from neurarium.probes import compare_errors

ERRORS = {"a": [0.1, 0.2, 0.3, 0.0], "b": [0.1, 0.4, 0.2, 0.1], "c": [0.3, 0.4, 0.4, 0.2]}
CLASSES = [2, 4, 5, 2]


def test_by_hand():
    found = compare_errors(ERRORS, CLASSES)
    assert found.mpce["a"] == pytest.approx((0.05 + 0.05 + 0.06 + 0.0) / 4)
    assert found.ranks == pytest.approx({"a": (1.5 + 1 + 2 + 1) / 4, "b": (1.5 + 2.5 + 1 + 2) / 4, "c": 11.5 / 4})
    assert found.geometric_ranks["a"] == pytest.approx(3.0**0.25)
    assert found.wins == {"a": 3, "b": 2, "c": 0}
    assert found.sets == 4
    assert found.summary().startswith("a: rank 1.38")


def test_signed_ranks_are_those_of_scipy():
    random = np.random.default_rng(0)
    first, second = random.uniform(0, 0.5, (2, 12))
    found = compare_errors({"x": first.tolist(), "y": second.tolist(), "z": first.tolist()}, [2] * 12)
    assert found.p_values["x", "y"] == pytest.approx(wilcoxon(first, second).pvalue)
    assert found.p_values["x", "z"] == 1.0
    assert found.plot(Figure().subplots())


@pytest.mark.parametrize(
    ("errors", "message"),
    [({"a": [0.1]}, "two classifiers"), ({"a": [0.1], "b": [0.1, 0.2]}, "the 1 sets"), ({"a": [2], "b": [0]}, "share")],
)
def test_refusals(errors, message):
    with pytest.raises(ValueError, match=message):
        compare_errors(errors, [2])
