"""Closed-form heads on frozen features that know how features vary together: streaming LDA and ridge regression."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.continual.frozen_features._nearest_mean import NearestMeanClassifier


class _SecondMoments(NearestMeanClassifier):
    """Class means, and the sum of z zᵀ over all examples."""

    gram: Tensor

    def __init__(
        self, encoder: nn.Module | Callable[[Any], Any] | None = None, *, dtype: torch.dtype = torch.float64
    ) -> None:
        super().__init__(encoder, dtype=dtype)
        self.register_buffer("gram", torch.empty(0, 0, dtype=dtype))

    def _update(self, features: Tensor, rows: Tensor, sign: int) -> None:
        super()._update(features, rows, sign)
        moments = features.T @ features
        self.gram = sign * moments if not self.gram.numel() else self.gram + sign * moments

    def forget_class(self, label: Hashable) -> None:
        """A class cannot be told apart in the sum over all of them.

        Raises:
            ValueError: always; ``remove`` takes its examples out.
        """
        raise ValueError(
            f"{type(self).__name__} keeps one sum over all classes and cannot forget class {label!r} without its "
            "examples: use remove(x, y)"
        )

    def _take_in(self, other: Any) -> None:
        gram = other.gram.to(self.means)
        self.gram = gram.clone() if not self.gram.numel() else self.gram + gram

    def _scores(self, features: Tensor) -> Tensor:
        if features.dtype not in self._linear:
            self._linear[features.dtype] = tuple(t.to(features) for t in self._weights())
        weight, bias = self._linear[features.dtype]
        return torch.addmm(bias, features, weight.T)

    def _weights(self) -> tuple[Tensor, Tensor]:
        """A linear classifier: weight [classes, features] and bias [classes]."""
        raise TypeError("use StreamingLDA or StreamingRidge")


class StreamingLDA(_SecondMoments):
    """The nearest mean under the covariance that the classes share (Hayes and Kanan, 2020).

    Scores are mu^T S^-1 z - mu^T S^-1 mu / 2 with S the covariance within classes, shrunk; the covariance is that of
    all data seen, whatever their order.

    Args:
        encoder: see `NearestMeanClassifier`.
        shrinkage: share of S that is replaced by its mean diagonal times the identity; between 0 and 1.
        dtype: of the statistics.
    """

    def __init__(
        self,
        encoder: nn.Module | Callable[[Any], Any] | None = None,
        *,
        shrinkage: float = 1e-4,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        if not 0 < shrinkage <= 1:
            raise ValueError(f"shrinkage must be above 0 and at most 1, not {shrinkage}")
        super().__init__(encoder, dtype=dtype)
        self.shrinkage = shrinkage

    def _weights(self) -> tuple[Tensor, Tensor]:
        within = (self.gram - (self.means.T * self.counts) @ self.means) / self.counts.sum()
        level = within.diagonal().mean().clamp_min(torch.finfo(within.dtype).tiny)
        shrunk = (1 - self.shrinkage) * within + self.shrinkage * level * torch.eye(len(within)).to(within)
        weight = torch.linalg.solve(shrunk, self.means.T).T
        return weight, -(weight * self.means).sum(1) / 2


class StreamingRidge(_SecondMoments):
    """Ridge regression to one-hot targets from streamed statistics, with an unpenalised bias.

    Args:
        encoder: see `NearestMeanClassifier`.
        strength: of the penalty, relative to the mean diagonal of the features' scatter.
        dtype: of the statistics.
    """

    def __init__(
        self,
        encoder: nn.Module | Callable[[Any], Any] | None = None,
        *,
        strength: float = 1e-3,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        if not strength > 0:
            raise ValueError(f"strength must be positive, not {strength}")
        super().__init__(encoder, dtype=dtype)
        self.strength = strength

    def _weights(self) -> tuple[Tensor, Tensor]:
        total = self.counts.sum()
        share, mean = self.counts / total, (self.counts @ self.means) / total
        scatter = self.gram - total * mean.outer(mean)
        level = scatter.diagonal().mean().clamp_min(torch.finfo(scatter.dtype).tiny)
        towards = self.counts[:, None] * (self.means - mean)  # sum over examples of (target - share) (z - mean)
        weight = torch.linalg.solve(scatter + self.strength * level * torch.eye(len(scatter)).to(scatter), towards.T).T
        return weight, share - weight @ mean
