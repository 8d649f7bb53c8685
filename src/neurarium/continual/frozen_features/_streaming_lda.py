"""Closed-form heads on frozen features that know how features vary together: streaming LDA and ridge regression."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from neurarium.continual.frozen_features._nearest_mean import NearestMeanClassifier


class _SecondMoments(NearestMeanClassifier):
    """Class means, and the scatter sum (z - m) (z - m)ᵀ of all examples about their mean m, whatever their order.

    About the mean no digits are lost where features lie far from zero.
    """

    gram: Tensor
    exact: ClassVar[tuple[str, ...]] = ("means", "counts", "gram")

    def __init__(
        self, encoder: nn.Module | Callable[[Any], Any] | None = None, *, dtype: torch.dtype = torch.float64
    ) -> None:
        super().__init__(encoder, dtype=dtype)
        self.register_buffer("gram", torch.empty(0, 0, dtype=dtype))

    def _update(self, features: Tensor, rows: Tensor, sign: int) -> None:
        before, there = self._overall(), self.counts.sum()
        super()._update(features, rows, sign)
        mean, count = features.mean(0), len(features)
        other = before if sign > 0 else self._overall()  # the mean of the examples beside the batch
        beside = there if sign > 0 else there - count
        if not self.gram.numel():
            self.gram = features.new_zeros(2 * (features.shape[1],))
        within = (features - mean).T @ (features - mean)
        self.gram = self.gram + sign * (within + _between(beside, other, count, mean))

    def _overall(self) -> Tensor:
        """The mean of all examples."""
        return self.counts @ self.means / self.counts.sum().clamp_min(1)

    def forget_class(self, label: Hashable) -> None:
        """A class cannot be told apart in the sum over all of them.

        Raises:
            ValueError: always; ``remove`` takes its examples out.
        """
        raise ValueError(
            f"{type(self).__name__} keeps one sum over all classes and cannot forget class {label!r} without its "
            "examples: use remove(x, y)"
        )

    def merge(self, other: NearestMeanClassifier) -> None:
        """Take in what another classifier observed: the result is that of one fitted on both data sets.

        Raises:
            ValueError: as `NearestMeanClassifier.merge`.
        """
        before, there = self._overall(), self.counts.sum()
        super().merge(other)
        if not isinstance(other, _SecondMoments) or not other.gram.numel():
            return
        gram, counts = other.gram.to(self.means), other.counts.sum().to(self.means)
        if not self.gram.numel():
            self.gram = gram.clone()
        else:
            self.gram = self.gram + gram + _between(there, before, counts, other._overall().to(self.means))

    def _scores(self, features: Tensor) -> Tensor:
        if features.dtype not in self._linear:
            self._linear[features.dtype] = tuple(t.to(features) for t in self._weights())
        weight, bias, centre = self._linear[features.dtype]
        return torch.addmm(bias, features - centre, weight.T)

    def _shrunk(self, scatter: Tensor, share: float, keep: float) -> Tensor | None:
        """``keep`` of a scatter and ``share`` of its mean diagonal times the identity; None if it is rounding noise."""
        level, eps = scatter.diagonal().mean(), torch.finfo(scatter.dtype).eps
        spread, far = (
            float(t.double().mean() ** 0.5) for t in (self.gram.diagonal(), self._overall().double().square())
        )
        far *= float(self.counts.sum()) ** 0.5
        if not float(level) > 100 * eps * (spread**2 + spread * far + eps * far**2):
            return None
        return keep * scatter + share * level * torch.eye(len(scatter)).to(scatter)

    def _weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """A linear classifier of what a point has beyond a centre: weight [classes, features], bias and the centre."""
        raise TypeError("use StreamingLDA or StreamingRidge")


class StreamingLDA(_SecondMoments):
    """The nearest mean under the covariance that the classes share (Hayes and Kanan, 2020).

    Scores are mu^T S^-1 z - mu^T S^-1 mu / 2, less what all classes share, with S the covariance within classes,
    shrunk; the covariance is that of all data seen, whatever their order. With one example per class there is none, and
    S is the identity.

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

    def _weights(self) -> tuple[Tensor, Tensor, Tensor]:
        offsets = self.means - self._overall()
        within = self.gram - (offsets.T * self.counts) @ offsets
        shrunk = self._shrunk(within, self.shrinkage, 1 - self.shrinkage)
        centre = self.means.mean(0)
        means = self.means - centre
        # without any spread within classes, the nearest mean
        weight = means if shrunk is None else torch.linalg.solve(shrunk / self.counts.sum(), means.T).T
        return weight, -(weight * means).sum(1) / 2, centre


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

    def _weights(self) -> tuple[Tensor, Tensor, Tensor]:
        total = self.counts.sum()
        share, mean = self.counts / total, (self.counts @ self.means) / total
        shrunk = self._shrunk(self.gram, self.strength, 1.0)
        towards = self.counts[:, None] * (self.means - mean)  # sum over examples of (target - share) (z - mean)
        weight = torch.zeros_like(towards) if shrunk is None else torch.linalg.solve(shrunk, towards.T).T
        return weight, share, mean


def _between(count: Tensor | int, mean: Tensor, other_count: Tensor | int, other_mean: Tensor) -> Tensor:
    """What joining two sets of examples adds to the sum of their scatters (Chan et al., 1983)."""
    whole = count + other_count
    if float(whole) == 0:
        return torch.zeros_like(other_mean.outer(other_mean))
    apart = other_mean - mean
    return (count * other_count / whole) * apart.outer(apart)
