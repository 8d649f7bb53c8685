"""Annealed importance sampling: the ratio of two normalising constants, by chains between two densities."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class ImportanceEstimate:
    """A ratio of normalising constants as a mean of weights.

    Args:
        log_weights: of the chains, in float64.
    """

    log_weights: Float[Tensor, " chains"]

    @property
    def log_mean(self) -> float:
        """Logarithm of the mean weight: the estimate, whose mean on the plain scale is exact."""
        return float(self.log_weights.logsumexp(0)) - math.log(len(self.log_weights))

    @property
    def standard_error(self) -> float:
        """Of `log_mean`, to first order; it sees only as much spread as the chains have found."""
        relative = (self.log_weights - self.log_weights.max()).exp()
        if len(relative) < 2:
            return math.inf
        return float(relative.std() / relative.mean()) / math.sqrt(len(relative))

    @property
    def effective(self) -> float:
        """Effective number of chains, ``(Σw)² / Σw²``; near 1 where one weight is nearly all."""
        return math.exp(2 * float(self.log_weights.logsumexp(0)) - float((2 * self.log_weights).logsumexp(0)))


@torch.no_grad()
def annealed_importance(
    start: Tensor,
    log_ratio: Callable[[Tensor, float, float], Float[Tensor, " chains"]],
    transition: Callable[[Tensor, float], Tensor],
    betas: Float[Tensor, " temperatures"],
) -> ImportanceEstimate:
    """``Z(1) / Z(0)`` of a family of densities ``f_β / Z(β)`` between one that can be drawn from and one that cannot.

    (Neal, 2001.) A chain begins at an exact draw of ``f_0``, and moves by transitions that leave each ``f_β`` as it is;
    its weight is the product of ``f_β' / f_β`` at its states on the way.

    Args:
        start: exact draws of the density at 0, ``[chains, ...]``.
        log_ratio: ``log_ratio(x, before, after)`` is ``log f_after(x) − log f_before(x)``.
        transition: ``transition(x, beta)`` moves the chains and leaves the density at ``beta`` invariant.
        betas: rising from 0 to 1.

    Raises:
        ValueError: ``betas`` do not rise from 0 to 1.
    """
    places = betas.tolist()
    if len(places) < 2 or places[0] != 0 or places[-1] != 1 or any(b <= a for a, b in itertools.pairwise(places)):
        raise ValueError("betas must rise from 0 to 1, both ends included")
    x, weights = start, torch.zeros(len(start), dtype=torch.float64, device=start.device)
    for before, after in itertools.pairwise(places):
        weights += log_ratio(x, before, after).double()
        if after < 1:
            x = transition(x, after)
    return ImportanceEstimate(weights)
