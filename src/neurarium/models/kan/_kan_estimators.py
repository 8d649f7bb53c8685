"""Kolmogorov-Arnold networks as scikit-learn estimators."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any, no_type_check

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from neurarium.models.kan._kan import KAN
from neurarium.models.kan._train_kan import train_kan

FEW = 40
"""With fewer rows none is set aside for validation."""


class _KANEstimator(BaseEstimator):
    """Common to both estimators."""

    hidden_layer_sizes: tuple[int, ...]
    grid_sizes: tuple[int, ...]
    degree: int
    max_iter: int
    sparsity: float
    validation_fraction: float
    random_state: Any

    @no_type_check  # scikit-learn's rule: a constructor checks nothing, `fit` does
    def __init__(
        self,
        hidden_layer_sizes: tuple[int, ...] = (5,),
        grid_sizes: tuple[int, ...] = (3, 5, 10),
        degree: int = 3,
        max_iter: int = 10,
        sparsity: float = 0.0,
        validation_fraction: float = 0.2,
        random_state: Any = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.grid_sizes = grid_sizes
        self.degree = degree
        self.max_iter = max_iter
        self.sparsity = sparsity
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def _train(self, X: NDArray[Any], y: Tensor, outputs: int, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Train on finer and finer grids and keep the network that was best on the rows set aside."""
        if not self.grid_sizes or list(self.grid_sizes) != sorted(self.grid_sizes):
            raise ValueError(f"grid_sizes must rise, each at least 1, not {self.grid_sizes}")
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(f"validation_fraction must be in [0, 1), not {self.validation_fraction}")
        random = check_random_state(self.random_state)
        generator = torch.Generator().manual_seed(int(random.randint(2**31 - 1)))
        low, high = X.min(0), X.max(0)
        self.centre_ = (low + high) / 2
        self.half_range_ = np.where(high > low, (high - low) / 2, 1.0)
        x = self._scaled(X)
        order = torch.from_numpy(random.permutation(len(x)))
        aside = int(self.validation_fraction * len(x)) if len(x) >= FEW else 0
        held, used = order[:aside], order[aside:]
        widths = [x.shape[1], *self.hidden_layer_sizes, outputs]
        network = KAN(
            widths, grid_size=self.grid_sizes[0], degree=self.degree, generator=generator, dtype=torch.float64
        )
        best = float("inf")
        self.losses_: list[float] = []
        for grid_size in self.grid_sizes:
            network.refine(grid_size)
            for _ in range(self.max_iter):
                try:
                    moves = len(used) > 1
                    self.losses_ += train_kan(
                        network, x[used], y[used], 1, loss=loss, sparsity=self.sparsity, update_grid=moves
                    )
                except FloatingPointError as error:
                    warnings.warn(f"training stopped: {error}", ConvergenceWarning, stacklevel=3)
                    break
                with torch.no_grad():
                    rows = held if aside else used
                    reached = float(loss(network(x[rows]), y[rows]))
                if reached < best:
                    best, self.network_ = reached, copy.deepcopy(network)
        self.n_iter_ = len(self.losses_)

    def _scaled(self, X: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray((X - self.centre_) / self.half_range_))

    def _outputs(self, X: Any) -> Tensor:
        check_is_fitted(self, "network_")
        rows = validate_data(self, X, reset=False, dtype=np.float64)
        with torch.no_grad():
            output: Tensor = self.network_(self._scaled(rows))
        return output


class KANRegressor(RegressorMixin, _KANEstimator):
    """A Kolmogorov-Arnold network for one or several numbers, trained by L-BFGS on finer and finer grids.

    Inputs are brought into [-1, 1] and targets standardised inside. Of all steps the network is kept that is best on
    rows set aside (none below 40 rows). ``network_`` is the fitted `KAN`: prune it, snap it, write its formula (in the
    scaled inputs ``(x - centre_) / half_range_``).

    Args:
        hidden_layer_sizes: widths of the hidden layers; () for a sum of functions of one input each.
        grid_sizes: numbers of intervals, rising; each is trained in turn.
        degree: of the splines.
        max_iter: L-BFGS steps on each grid.
        sparsity: factor of `edge_sparsity`; 1e-3 to 1e-2 makes networks that can be pruned.
        validation_fraction: share of the rows that is set aside, in [0, 1).
        random_state: seed or `numpy.random.RandomState`.
    """

    def fit(self, X: Any, y: Any) -> Any:
        """Train; ``y`` is [rows] or [rows, outputs]."""
        rows, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        targets = np.asarray(y, dtype=np.float64)
        self._single = targets.ndim == 1
        targets = targets.reshape(len(targets), -1)
        self.mean_, spread = targets.mean(0), targets.std(0)
        self.spread_ = np.where(spread > 0, spread, 1.0)
        standard = torch.from_numpy((targets - self.mean_) / self.spread_)
        self._train(rows, standard, targets.shape[1], mse_loss)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """The predicted numbers, shaped as the targets were."""
        values: NDArray[np.float64] = self._outputs(X).numpy() * self.spread_ + self.mean_
        return values[:, 0] if self._single else values

    def __sklearn_tags__(self) -> Tags:
        """Several targets are supported."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        return tags


class KANClassifier(ClassifierMixin, _KANEstimator):
    """A Kolmogorov-Arnold network for two or more classes.

    Arguments and ``network_`` are those of `KANRegressor`; the network has an output for each class.
    """

    def fit(self, X: Any, y: Any) -> Any:
        """Train on all rows at once."""
        rows, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("KANClassifier needs two classes; the data contain one class")
        self._train(rows, torch.from_numpy(index), len(self.classes_), cross_entropy)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities [rows, classes]."""
        probabilities: NDArray[np.float64] = self._outputs(X).softmax(1).numpy()
        return probabilities

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable class of each row."""
        index = self._outputs(X).argmax(1).numpy()
        predicted: NDArray[Any] = self.classes_[index]
        return predicted
