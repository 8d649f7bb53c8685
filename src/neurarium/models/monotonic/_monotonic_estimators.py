"""Monotonic networks as scikit-learn estimators: directions by column name, early stopping, a guarantee."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from neurarium.models.monotonic._monotonic_net import MonotonicNet

Directions = Mapping[Any, int] | Sequence[int] | None


class _MonotonicEstimator(BaseEstimator):
    """Common to both estimators."""

    def __init__(
        self,
        monotone: Directions = None,
        hidden: Sequence[int] = (24, 24),
        architecture: int = 1,
        activation: str = "elu",
        dropout: float = 0.0,
        learning_rate: float = 0.02,
        weight_decay: float = 0.01,
        epochs: int = 60,
        batch_size: int = 32,
        validation_fraction: float = 0.125,
        random_state: Any = None,
    ) -> None:
        self.monotone = monotone
        self.hidden = hidden
        self.architecture = architecture
        self.activation = activation
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def _directions(self, inputs: int) -> list[int]:
        """The direction of each column.

        Raises:
            ValueError: a column that is not there, or directions that do not fit.
        """
        if self.monotone is None:
            return [0] * inputs
        if not isinstance(self.monotone, Mapping):
            if len(self.monotone) != inputs:
                raise ValueError(f"monotone must have one direction per column ({inputs}), not {len(self.monotone)}")
            return [int(t) for t in self.monotone]
        names = list(getattr(self, "feature_names_in_", range(inputs)))
        directions = [0] * inputs
        for column, direction in self.monotone.items():
            if column in names:
                directions[names.index(column)] = int(direction)
            elif isinstance(column, int) and 0 <= column < inputs:
                directions[column] = int(direction)
            else:
                raise ValueError(f"monotone names the column {column!r}, and X has {', '.join(map(str, names[:20]))}")
        return directions

    def _train(self, X: NDArray[Any], y: NDArray[Any], loss: Any) -> None:
        """Train on standardised inputs; the epoch with the lowest loss on held-out rows is kept."""
        random = check_random_state(self.random_state)
        generator = torch.Generator().manual_seed(int(random.randint(2**31 - 1)))
        self.mean_ = X.mean(0)
        spread = X.std(0)
        self.scale_ = np.where(spread > 0, spread, 1.0)
        x, target = self._scaled(X), torch.from_numpy(np.asarray(y, np.float64))
        order = torch.randperm(len(x), generator=generator)
        held = int(len(x) * self.validation_fraction)
        out, rows = order[:held], order[held:]
        net = MonotonicNet(
            self._directions(X.shape[1]), self.hidden, 1, self.architecture,  # type: ignore[arg-type]
            self.activation, dropout=self.dropout, generator=generator,
        ).double()  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(random.randint(2**31 - 1)))  # dropout draws from the global generator
            best, state = math.inf, copy.deepcopy(net.state_dict())
            optimizer = torch.optim.AdamW(net.parameters(), self.learning_rate, weight_decay=self.weight_decay)
            decay = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.95)
            for _ in range(self.epochs):
                net.train()
                for part in rows[torch.randperm(len(rows), generator=generator)].split(self.batch_size):
                    optimizer.zero_grad()
                    loss(net(x[part])[:, 0], target[part]).backward()
                    optimizer.step()
                decay.step()
                net.eval()
                with torch.no_grad():
                    watched = out if held else rows
                    found = float(loss(net(x[watched])[:, 0], target[watched]))
                if found < best:
                    best, state = found, copy.deepcopy(net.state_dict())
        net.load_state_dict(state)
        self.net_ = net.eval()

    def _scaled(self, X: NDArray[Any]) -> Tensor:
        return torch.from_numpy((X - self.mean_) / self.scale_)

    def _score_of(self, X: ArrayLike) -> NDArray[np.float64]:
        check_is_fitted(self, "net_")
        rows = validate_data(self, X, reset=False, dtype=np.float64)
        with torch.no_grad():
            score: NDArray[np.float64] = self.net_(self._scaled(rows))[:, 0].numpy()
        return score


class MonotonicRegressor(RegressorMixin, _MonotonicEstimator):
    """A `MonotonicNet` for one number; the guarantee holds in the inputs' own units.

    Args:
        monotone: column name (or number) -> 1 where the prediction must not fall when the column rises, -1 where it
            must not rise; or one of 1, -1, 0 per column; None to hold nothing.
        hidden: sizes of the hidden layers.
        architecture: 1 or 2, see `MonotonicNet`.
        activation: "relu", "elu", "selu" or "softplus".
        dropout: after each hidden layer.
        learning_rate: AdamW's, times 0.95 after each epoch.
        weight_decay: AdamW's.
        epochs: passes over the training rows; the best one on held-out rows is kept.
        batch_size: rows per step.
        validation_fraction: share of the rows held out to choose the epoch; 0 to use the training rows.
        random_state: seed or `numpy.random.RandomState`.

    Attributes:
        net_: the trained network, over standardised columns; `neurarium.probes.certify` proves it.
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> MonotonicRegressor:
        """Train."""
        rows, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        target = np.asarray(y, dtype=np.float64)
        self.target_mean_, self.target_scale_ = float(target.mean()), float(target.std()) or 1.0
        self._train(rows, (target - self.target_mean_) / self.target_scale_, mse_loss)
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """A number for each row."""
        return self._score_of(X) * self.target_scale_ + self.target_mean_


class MonotonicClassifier(ClassifierMixin, _MonotonicEstimator):
    """A `MonotonicNet` for two classes: the probability of the second class never falls along held columns.

    Arguments and ``net_`` are those of `MonotonicRegressor`.
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> MonotonicClassifier:
        """Train.

        Raises:
            ValueError: there are not exactly two classes.
        """
        rows, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        if len(self.classes_) > 2:
            kind = type_of_target(y, input_name="y")
            raise ValueError(f"Only binary classification is supported. The type of the target is {kind}.")
        if len(self.classes_) < 2:
            raise ValueError("MonotonicClassifier needs two classes; the data contain one class")
        self._train(rows, index, binary_cross_entropy_with_logits)
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """The logit of the second class for each row."""
        return self._score_of(X)

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities [rows, 2]."""
        second = 1 / (1 + np.exp(-self._score_of(X)))
        return np.stack([1 - second, second], 1)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The more probable class of each row."""
        second = (self._score_of(X) > 0).astype(int)
        predicted: NDArray[Any] = self.classes_[second]
        return predicted

    def __sklearn_tags__(self) -> Tags:
        """Two classes only."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags
