"""Mean and spread of every class's features, gathered in one pass."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurarium.probes.collapse._features import precise


class ClassMoments:
    """Count, mean and sum of squared deviations per class, and where asked for the scatter within classes.

    Batches may come in any size and order and labels may be any whole numbers. All features are counted from the first
    one seen, in double precision, so that a large common offset costs no digits.

    Args:
        scatter: keep the sum over examples of (h - mu)(h - mu)^T as well, [features, features].
    """

    def __init__(self, scatter: bool = False) -> None:
        self._with_scatter = scatter
        self._index: dict[int, int] = {}
        self._origin: Tensor | None = None
        self._state: Any = None  # counts [K], sums [K, d], sums of squares [K], second moment [d, d]

    def update(self, features: Float[Tensor, "batch features"], labels: Int[Tensor, batch]) -> None:
        """Take a batch in.

        Raises:
            ValueError: another number of features than before, or one that is not finite.
        """
        h = precise(features)
        if not len(h):
            return
        if not bool(h.isfinite().all()):
            bad = int((~h.isfinite().all(1)).nonzero()[0])
            raise ValueError(f"features of example {bad} of a batch are not finite")
        if self._origin is None:
            self._origin = h[0].clone()
            d = h.shape[1]
            square = h.new_zeros(d, d) if self._with_scatter else None
            self._state = h.new_zeros(0), h.new_zeros(0, d), h.new_zeros(0), square
        if h.shape[1] != len(self._origin):
            raise ValueError(f"features must be {len(self._origin)} as before, not {h.shape[1]}")
        h = h - self._origin
        found, inverse = labels.unique(return_inverse=True)
        rows = [self._index.setdefault(label, len(self._index)) for label in found.tolist()]
        row = torch.tensor(rows, device=h.device)[inverse]
        counts, sums, squares, second = self._state
        more = len(self._index) - len(counts)
        if more:
            counts = torch.cat([counts, counts.new_zeros(more)])
            sums = torch.cat([sums, sums.new_zeros(more, h.shape[1])])
            squares = torch.cat([squares, squares.new_zeros(more)])
        counts.index_add_(0, row, torch.ones_like(h[:, 0]))
        sums.index_add_(0, row, h)
        squares.index_add_(0, row, h.square().sum(1))
        if second is not None:
            second.addmm_(h.T, h)
        self._state = counts, sums, squares, second

    def _ordered(self) -> tuple[Tensor, Tensor]:
        """Labels in rising order and the rows that hold them."""
        order = sorted(self._index)
        return torch.tensor(order), torch.tensor([self._index[label] for label in order], device=self._first().device)

    def _first(self) -> Tensor:
        if self._origin is None:
            raise ValueError("no example has been seen")
        return self._origin

    @property
    def classes(self) -> Int[Tensor, classes]:
        """Labels in rising order: the order of everything else."""
        return self._ordered()[0]

    @property
    def counts(self) -> Float[Tensor, classes]:
        """Examples of each class."""
        return self._state[0][self._ordered()[1]]

    @property
    def means(self) -> Float[Tensor, "classes features"]:
        """Mean feature of each class."""
        return self._relative_means() + self._first()

    @property
    def variances(self) -> Float[Tensor, classes]:
        """Mean squared distance of a class's features from their mean (all coordinates together)."""
        squares = self._state[2][self._ordered()[1]] / self.counts
        return (squares - self._relative_means().square().sum(1)).clamp_min(0)

    @property
    def scatter(self) -> Float[Tensor, "features features"]:
        """Mean over examples of (h - mu)(h - mu)^T."""
        if self._state[3] is None:
            raise ValueError("ask for scatter=True to keep it")
        m = self._relative_means()
        return (self._state[3] - (m.T * self.counts) @ m) / self.counts.sum()

    def _relative_means(self) -> Tensor:
        return self._state[1][self._ordered()[1]] / self.counts[:, None]
