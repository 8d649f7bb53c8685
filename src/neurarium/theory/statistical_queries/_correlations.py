"""Correlations within a family of functions, and the queries that a learner from correlations needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

Function = Callable[[Any], Tensor]


@dataclass(frozen=True)
class CorrelationReport:
    """Correlations E f g / √(E f² E g²) of all pairs, by sampling.

    Args:
        matrix: the correlations.
        error: their standard errors.
        norms: √E f².
        samples: inputs drawn.
    """

    matrix: Float[Tensor, "functions functions"]
    error: Float[Tensor, "functions functions"]
    norms: Float[Tensor, " functions"]
    samples: int

    @property
    def largest(self) -> float:
        """Largest correlation of two different functions, without its sign; 0 for a single one."""
        away = self.matrix - torch.diag(self.matrix.diagonal())
        return float(away.abs().max())

    def dimension(self, correlation: float, *, exact: bool = False) -> int:
        """Size of the largest subset found with all correlations up to ``correlation``."""
        return len(largest_uncorrelated_subset(self.matrix, correlation, exact=exact))

    def queries(self, tolerance: float) -> float:
        """The best bound of `csq_lower_bound` over all levels of correlation that occur."""
        levels = self.matrix.abs().flatten().unique()
        levels = levels[levels < tolerance**2].tolist()
        sizes = ((self.dimension(level), level) for level in levels[:: max(len(levels) // 50, 1)] + levels[-1:])
        return max((csq_lower_bound(size, tolerance, level) for size, level in sizes), default=0.0)

    def summary(self) -> str:
        """How many functions, how far they correlate."""
        return (
            f"{len(self.matrix)} functions, {self.samples} samples: correlations up to {self.largest:.4f} "
            f"(standard error {float(self.error.max()):.4f})"
        )


@torch.no_grad()
def correlation_matrix(functions: Sequence[Function], sample: Any) -> CorrelationReport:
    """Correlate functions on the same inputs.

    Args:
        functions: each gives one number for each input: targets, or teacher networks.
        sample: inputs, as the functions take them.

    Raises:
        ValueError: there are none, one gives something else than a number per input, or is zero on the sample.
    """
    if not functions:
        raise ValueError("functions must hold at least one")
    values = torch.stack([function(sample).detach().double().flatten() for function in functions])
    count = values.shape[1]
    norms = values.square().mean(1).sqrt()
    if (norms == 0).any():
        raise ValueError(f"function {int((norms == 0).nonzero()[0])} is zero on the whole sample")
    unit = values / norms[:, None]
    matrix = unit @ unit.T / count
    spread = unit.square() @ unit.square().T / count - matrix.square()
    return CorrelationReport(matrix, (spread.clamp_min(0) / count).sqrt(), norms, count)


def csq_lower_bound(count: float, tolerance: float, correlation: float = 0.0) -> float:
    """Queries of a tolerance that any learner from correlations needs: count (tolerance² − correlation) / 2.

    With fewer it cannot reach a squared error below about 1 − 2 tolerance on some of the functions (Szörényi, 2009;
    Diakonikolas et al., 2020). The gradient of a squared loss is such a query.

    Args:
        count: functions of unit norm.
        tolerance: by which an answer may be off; for gradients from m examples about 1/√m.
        correlation: the largest between two of them. Where it is not below tolerance², nothing follows, and the bound
            is 0.

    Raises:
        ValueError: a negative number.
    """
    if min(count, tolerance, correlation) < 0:
        raise ValueError("count, tolerance and correlation must not be negative")
    gap = tolerance**2 - correlation
    return count * gap / 2 if gap > 1e-12 * correlation else 0.0  # 0.1² is not quite 0.01


def largest_uncorrelated_subset(
    matrix: Float[Tensor, "functions functions"], correlation: float, *, exact: bool = False
) -> list[int]:
    """Functions with all mutual correlations up to a level.

    Args:
        matrix: correlations.
        correlation: the level, in absolute value.
        exact: a largest such subset, by search (a maximum clique: for up to some tens of functions); otherwise greedily
            by taking out the one in most conflicts, which is a lower bound.

    Raises:
        ValueError: the matrix is not square.
    """
    if matrix.dim() != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"matrix must be square, not of shape {tuple(matrix.shape)}")
    conflict = matrix.abs() > correlation
    conflict.fill_diagonal_(False)
    if exact:
        return _clique(conflict)
    left = torch.ones(len(matrix), dtype=torch.bool, device=matrix.device)
    while True:
        degree = (conflict & left).sum(1) * left
        if not degree.any():
            return left.nonzero().flatten().tolist()
        left[degree.argmax()] = False


def _clique(conflict: Tensor) -> list[int]:
    """A largest set without conflicts, by branch and bound on sets of bits."""
    size = len(conflict)
    free = [sum(1 << j for j in range(size) if j != i and not conflict[i, j]) for i in range(size)]
    best: list[int] = []

    def extend(chosen: list[int], candidates: int) -> None:
        nonlocal best
        if len(chosen) > len(best):
            best = chosen
        while candidates and len(chosen) + candidates.bit_count() > len(best):
            i = candidates.bit_length() - 1
            candidates &= ~(1 << i)
            extend([*chosen, i], candidates & free[i])

    extend([], (1 << size) - 1)
    return sorted(best)
