"""The three networks as one scikit-learn estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from neurarium.models.time_series._networks import TimeSeriesFCN, TimeSeriesMLP, TimeSeriesResNet
from neurarium.models.time_series._train import train_time_series


class TimeSeriesClassifier(ClassifierMixin, BaseEstimator):
    """A network on raw series: no features, no cropping, nothing to tune per data set (Wang, Yan and Oates, 2017).

    Series are [series, steps] or [series, channels, steps]; with ``lengths`` shorter ones may be filled up behind their
    end. They are scaled by the mean and deviation of each channel over the training part. The weights kept are those of
    the lowest training loss.

    Args:
        network: "fcn" (three convolutions), "resnet" (nine, with shortcuts) or "mlp" (one length only).
        width: factor on the published widths (128-256-128 channels, 64-128-128, 500 units). A quarter trains sixteen
            times faster and loses little on short series; 1.0 is the paper.
        epochs: passes over the series. The paper has 2,000 at a rate that falls on plateaus; here it falls along a
            cosine, which needs a twentieth.
        learning_rate: Adam's.
        batch_size: series per step; None for a tenth of them, at least 2 and at most 16.
        device: where the network is trained and predicts.
        random_state: seed or `numpy.random.RandomState`.

    Attributes:
        network_: the trained network; `neurarium.probes.class_activation` shows which steps decided.
        losses_: training loss of each epoch.
    """

    def __init__(
        self,
        network: str = "fcn",
        width: float = 0.25,
        epochs: int = 100,
        learning_rate: float = 1e-3,
        batch_size: int | None = None,
        device: str = "cpu",
        random_state: Any = None,
    ) -> None:
        self.network = network
        self.width = width
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike, lengths: ArrayLike | None = None) -> TimeSeriesClassifier:
        """Train.

        Args:
            X: series.
            y: their classes.
            lengths: steps of each series; all by default.

        Raises:
            ValueError: one class only, values that are missing, or an unknown network.
        """
        values, y = validate_data(self, X, y, dtype=np.float64, allow_nd=True)
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("TimeSeriesClassifier needs two classes; the data contain one class")
        series = _channelled(values)
        steps = _lengths(lengths, series)
        seen = series.swapaxes(0, 1)[:, _valid(steps, series)]
        self.mean_ = seen.mean(1)
        spread = seen.std(1)
        self.scale_ = np.where(spread > 0, spread, 1.0)
        random = check_random_state(self.random_state)
        generator = torch.Generator().manual_seed(int(random.randint(2**31 - 1)))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(random.randint(2**31 - 1)))
            made = self._made(*series.shape[1:])
        self.network_ = made.to(self.device)
        self.losses_ = train_time_series(
            self.network_, self._scaled(series), torch.from_numpy(index).to(self.device),
            None if lengths is None else torch.from_numpy(steps).to(self.device),
            epochs=self.epochs, batch_size=self.batch_size or 0, generator=generator,
            optimizer=lambda parameters: torch.optim.Adam(parameters, self.learning_rate),
        )  # fmt: skip
        self.network_.eval()
        return self

    def predict_proba(self, X: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[np.float64]:
        """Probabilities [series, classes].

        Args:
            X: series.
            lengths: steps of each; all by default.
        """
        check_is_fitted(self, "network_")
        series = _channelled(validate_data(self, X, reset=False, dtype=np.float64, allow_nd=True))
        if series.shape[1] != len(self.mean_):
            raise ValueError(f"X has {series.shape[1]} channels, but the network was fitted on {len(self.mean_)}")
        steps = None if lengths is None else torch.from_numpy(_lengths(lengths, series)).to(self.device)
        with torch.no_grad():
            parts = [
                self.network_(rows) if steps is None else self.network_(rows, steps[first : first + 256])
                for first, rows in zip(range(0, len(series), 256), self._scaled(series).split(256), strict=True)
            ]
        probabilities: NDArray[np.float64] = torch.cat(parts).double().softmax(1).cpu().numpy()
        return probabilities

    def predict(self, X: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """The most probable class of each series."""
        check_is_fitted(self, "network_")
        predicted: NDArray[Any] = self.classes_[self.predict_proba(X, lengths).argmax(1)]
        return predicted

    def _made(self, channels: int, steps: int) -> nn.Module:
        def wide(*published: int) -> list[int]:
            return [max(1, round(self.width * size)) for size in published]

        classes = len(self.classes_)
        if self.network == "fcn":
            return TimeSeriesFCN(channels, classes, wide(128, 256, 128))
        if self.network == "resnet":
            return TimeSeriesResNet(channels, classes, wide(64, 128, 128))
        if self.network == "mlp":
            return TimeSeriesMLP(channels, steps, classes, *wide(500))
        raise ValueError(f"network must be 'fcn', 'resnet' or 'mlp', not {self.network!r}")

    def _scaled(self, series: NDArray[np.float64]) -> Tensor:
        scaled = (series - self.mean_[:, None]) / self.scale_[:, None]
        return torch.from_numpy(scaled.astype(np.float32)).to(self.device)


def _channelled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Series as [series, channels, steps]."""
    if values.ndim not in (2, 3):
        raise ValueError(f"X must be [series, steps] or [series, channels, steps], not {values.ndim}-dimensional")
    return values[:, None] if values.ndim == 2 else values


def _lengths(lengths: ArrayLike | None, series: NDArray[np.float64]) -> NDArray[np.int64]:
    """The number of steps of each series."""
    steps = np.full(len(series), series.shape[2]) if lengths is None else np.asarray(lengths, np.int64)
    if steps.shape != (len(series),) or steps.min() < 1 or steps.max() > series.shape[2]:
        raise ValueError(f"lengths must be one number between 1 and {series.shape[2]} for each series")
    return steps


def _valid(steps: NDArray[np.int64], series: NDArray[np.float64]) -> NDArray[np.bool_]:
    valid: NDArray[np.bool_] = np.arange(series.shape[2]) < steps[:, None]
    return valid
