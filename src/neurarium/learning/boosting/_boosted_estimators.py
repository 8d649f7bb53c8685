"""Gradient-boosted networks as scikit-learn estimators: pipelines, grid search and scorers work unchanged."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from neurarium.learning.boosting._gradient_boosting import GradientBoostedHead


class _GradientBoostedNetwork(BaseEstimator):
    """Common to both estimators; their arguments are those of `GradientBoostedHead`."""

    def __init__(
        self,
        units: int = 200,
        units_per_step: int = 1,
        shrinkage: float = 1.0,
        subsample: float = 0.5,
        activation: str = "sigmoid",
        max_iter: int = 200,
        weight_decay: float = 1e-4,
        random_state: Any = None,
    ) -> None:
        self.units = units
        self.units_per_step = units_per_step
        self.shrinkage = shrinkage
        self.subsample = subsample
        self.activation = activation
        self.max_iter = max_iter
        self.weight_decay = weight_decay
        self.random_state = random_state

    def _fit_head(self, X: NDArray[Any], targets: NDArray[Any], outputs: int, loss: str) -> None:
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        options = {name: value for name, value in self.get_params(deep=False).items() if name != "random_state"}
        head = GradientBoostedHead(
            X.shape[1], outputs, loss=loss, generator=torch.Generator().manual_seed(seed), **options
        )
        self.head_ = head.double().fit(torch.from_numpy(X), torch.from_numpy(targets))
        self.n_iter_ = head.steps

    def _scores(self, X: ArrayLike) -> NDArray[np.float64]:
        check_is_fitted(self, "head_")
        X = validate_data(self, X, reset=False, dtype=np.float64)
        with torch.no_grad():
            scores: NDArray[np.float64] = self.head_(torch.from_numpy(np.ascontiguousarray(X))).numpy()
        return scores


class GradientBoostedNetworkClassifier(ClassifierMixin, _GradientBoostedNetwork):
    """A network of one hidden layer, boosted a few units at a time, for two or more classes.

    Standardise the inputs, for instance with `sklearn.preprocessing.StandardScaler` in a pipeline. ``head_`` is the
    fitted `GradientBoostedHead`: truncate it, weld it, or look at its training loss.

    Args:
        units: hidden units in all.
        units_per_step: hidden units that each step adds.
        shrinkage: factor on every step, in (0, 1].
        subsample: share of the examples that each step sees, in (0, 1].
        activation: of the hidden units, by name.
        max_iter: L-BFGS steps at most for each small network.
        weight_decay: penalty on the squares of the weights.
        random_state: seed or `numpy.random.RandomState` for subsamples and initial weights.
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> GradientBoostedNetworkClassifier:
        """Train on all rows at once."""
        rows, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("GradientBoostedNetworkClassifier needs two classes; the data contain one class")
        binary = len(self.classes_) == 2
        self._fit_head(rows, index, 1 if binary else len(self.classes_), "binary" if binary else "cross_entropy")
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Logits: [rows] of the second of two classes, otherwise [rows, classes]."""
        scores = self._scores(X)
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities [rows, classes]."""
        scores = torch.from_numpy(self._scores(X))
        if len(self.classes_) == 2:
            scores = torch.cat([torch.zeros_like(scores), scores], 1)
        probabilities: NDArray[np.float64] = scores.softmax(1).numpy()
        return probabilities

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable class of each row."""
        scores = self._scores(X)
        index = (scores[:, 0] > 0).astype(int) if len(self.classes_) == 2 else scores.argmax(1)
        predicted: NDArray[Any] = self.classes_[index]
        return predicted


class GradientBoostedNetworkRegressor(RegressorMixin, _GradientBoostedNetwork):
    """A network of one hidden layer, boosted a few units at a time, for one or several numbers.

    Arguments and ``head_`` are those of `GradientBoostedNetworkClassifier`.
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> GradientBoostedNetworkRegressor:
        """Train on all rows at once; ``y`` is [rows] or [rows, outputs]."""
        rows, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        targets = np.asarray(y, dtype=np.float64)
        self._single = targets.ndim == 1
        self._fit_head(rows, targets, 1 if self._single else targets.shape[1], "mse")
        return self

    def __sklearn_tags__(self) -> Tags:
        """Several targets are supported."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        return tags

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """The predicted numbers, shaped as the targets were."""
        scores = self._scores(X)
        return scores[:, 0] if self._single else scores
