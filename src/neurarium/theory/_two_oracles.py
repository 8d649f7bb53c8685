"""Gradient descent on a quadratic with two noisy gradients: one biased and calm, one unbiased and noisy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Oracle:
    """A source of gradients g + bias + N(0, variance)."""

    bias: float
    variance: float


def expected_distance(schedule: Iterable[Oracle], lr: float, start: float = 1.0) -> float:
    """E d², the expected squared distance from the minimum of d² / 2 after a schedule of gradient steps, exactly.

    With d ~ (m, v), a step gives m <- (1 - lr) m - lr * bias and v <- (1 - lr)² v + lr² * variance. A model of a
    curriculum (Kesgin and Amasyali, 2022): easy examples have calmer gradients that point a little elsewhere;
    alternating with all examples can beat both alone.

    Args:
        schedule: the oracle of each step.
        lr: step size, in (0, 2).
        start: distance at the start.

    Raises:
        ValueError: a step size outside (0, 2), for which the steps diverge.
    """
    if not 0 < lr < 2:
        raise ValueError(f"lr must lie between 0 and 2, not {lr}")
    mean, variance = start, 0.0
    for oracle in schedule:
        mean = (1 - lr) * mean - lr * oracle.bias
        variance = (1 - lr) ** 2 * variance + lr**2 * oracle.variance
    return mean**2 + variance
