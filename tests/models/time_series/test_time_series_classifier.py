"""TimeSeriesClassifier in scikit-learn's own checks, on several channels, and on series of unequal length."""

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from neurarium.models import TimeSeriesClassifier


@pytest.mark.untyped
@parametrize_with_checks([TimeSeriesClassifier(width=0.03, epochs=10, learning_rate=2e-2, batch_size=32)])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def bumps(seed):
    """Two channels; the class is the channel with a bump, at any place; series of 12 to 20 steps."""
    random = np.random.default_rng(seed)
    x = 0.3 * random.standard_normal((60, 2, 20))
    y, lengths = random.integers(0, 2, 60), random.integers(12, 21, 60)
    for row, label, length in zip(x, y, lengths):
        start = random.integers(0, length - 4)
        row[label, start : start + 4] += 2
        row[:, length:] = 100  # must not be seen
    return x, np.array(["left", "right"])[y], lengths


@pytest.mark.parametrize("network", ["fcn", "resnet"])
def test_channels_and_unequal_lengths(network):
    x, y, lengths = bumps(0)
    model = TimeSeriesClassifier(network, width=0.1, epochs=15, learning_rate=5e-3, random_state=0)
    model.fit(x, y, lengths)
    more, truth, steps = bumps(1)
    assert (model.predict(more, steps) == truth).mean() > 0.9
    assert abs(model.mean_).max() < 1
    again = TimeSeriesClassifier(network, width=0.1, epochs=15, learning_rate=5e-3, random_state=0).fit(x, y, lengths)
    assert np.array_equal(again.predict_proba(more, steps), model.predict_proba(more, steps))


def test_refusals():
    x, y, lengths = bumps(0)
    with pytest.raises(ValueError, match="network must be"):
        TimeSeriesClassifier("rnn").fit(x, y)
    with pytest.raises(ValueError, match="lengths must be one number between 1 and 20"):
        TimeSeriesClassifier().fit(x, y, lengths + 20)
    with pytest.raises(ValueError, match=r"series, steps"):
        TimeSeriesClassifier().fit(x[:, :, :, None], y)
    model = TimeSeriesClassifier(width=0.05, epochs=1).fit(x, y)
    with pytest.raises(ValueError, match="3 "):
        model.predict(np.zeros((4, 3, 20)))
