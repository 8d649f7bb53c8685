"""KANRegressor and KANClassifier in scikit-learn's own checks and on its own data."""

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from neurarium.models import KANClassifier, KANRegressor


@parametrize_with_checks([KANRegressor((3,), (3,), max_iter=3), KANClassifier((3,), (3,), max_iter=3)])
def test_scikit_learns_checks(estimator, check) -> None:
    check(estimator)


def test_a_function_is_learned_far_below_its_spread() -> None:
    random = np.random.default_rng(0)
    x = random.uniform(3, 7, (400, 2)) * [1, 1000]
    y = np.stack([np.sin(x[:, 0]) + x[:, 1] / 1000, 100 * np.cos(x[:, 0])], 1)
    fitted = KANRegressor(random_state=0).fit(x[:300], y[:300])
    assert fitted.score(x[300:], y[300:]) > 0.999
    assert np.array_equal(fitted.predict(x), KANRegressor(random_state=0).fit(x[:300], y[:300]).predict(x))


def test_real_classes_with_names() -> None:
    x, y = load_wine(return_X_y=True)
    names = np.array(["one", "two", "three"])[y]
    assert cross_val_score(KANClassifier((4,), (3,), max_iter=5, random_state=0), x, names, cv=3).mean() > 0.9


def test_settings_that_cannot_be_are_refused() -> None:
    x, y = np.random.default_rng(0).normal(size=(50, 2)), np.arange(50.0)
    with pytest.raises(ValueError, match="rise"):
        KANRegressor(grid_sizes=(5, 3)).fit(x, y)
    with pytest.raises(ValueError, match="validation_fraction"):
        KANRegressor(validation_fraction=1.5).fit(x, y)
