"""L-BFGS on many small independent problems at once: one pass of array operations moves all of them.

Boosting fits thousands of networks with a few dozen weights each. One at a time, the bookkeeping of the optimizer costs
more than the arithmetic; in lockstep over folds, grid points or seeds it is paid once. In NumPy, whose cost per call on
arrays this small is a third of torch's.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ARMIJO, CURVATURE = 1e-4, 0.9
LONGEST_SEARCH = 25


@runtime_checkable
class Problems(Protocol):
    """Independent smooth functions, each with parameters of its own."""

    def evaluate(self, parameters: Array) -> tuple[Array, Array]:
        """Values [problems] and gradients [problems, parameters] at parameters [problems, parameters]."""
        ...

    def select(self, index: NDArray[np.intp]) -> Problems:
        """Only the problems at ``index``."""
        ...


def minimize(
    problems: Problems, start: Array, *, max_iter: int = 200, history: int = 10, tolerance: float = 2.2e-9
) -> Array:
    """Minimise every problem by limited-memory BFGS with a weak Wolfe line search.

    A problem ends when a step lowers its value by less than ``tolerance`` times the larger of the value and 1 (SciPy's
    rule and default), or after ``max_iter`` steps; those still going do not wait for it.

    Args:
        problems: the functions.
        start: where they begin, [problems, parameters].
        max_iter: steps at most.
        history: pairs of steps and gradient changes kept, the rank of the curvature estimate.
        tolerance: relative decrease below which a problem has converged.

    Returns:
        The parameters found; a problem whose line search fails keeps the best it had.
    """
    found = start.copy()
    alive = np.arange(len(start))
    x, (value, gradient) = start, problems.evaluate(start)
    pairs = np.zeros((len(start), 2 * history, start.shape[1]))  # oldest first: steps, then gradient changes
    scale = 1 / np.maximum(np.sqrt((gradient * gradient).sum(1, keepdims=True)), 1e-30)
    for iteration in range(max_iter):
        recent = min(iteration, history)
        direction = -_inverse_hessian_times(gradient, pairs, scale, recent) if recent else -scale * gradient
        moved, new_value, new_gradient, length = _wolfe_step(problems, x, value, gradient, direction)
        scale = _remember(pairs, scale, length * direction, new_gradient - gradient)
        going = value - new_value > tolerance * np.maximum(np.maximum(abs(value), abs(new_value)), 1.0)
        x, value, gradient = moved, new_value, new_gradient
        if not going.all():
            found[alive] = x
            keep = going.nonzero()[0]
            if len(keep) == 0:
                return found
            problems, alive, pairs, scale = problems.select(keep), alive[keep], pairs[keep], scale[keep]
            x, value, gradient = x[keep], value[keep], gradient[keep]
    found[alive] = x
    return found


def _inverse_hessian_times(gradient: Array, pairs: Array, scale: Array, recent: int) -> Array:
    """The estimate of ``H⁻¹ g`` in compact form (Byrd, Nocedal and Schnabel, 1994): no loop over the pairs.

    Only the last ``recent`` pairs are there; a pair of zeros stands for none.
    """
    m = pairs.shape[1] // 2
    steps, changes = pairs[:, m - recent : m], pairs[:, 2 * m - recent :]
    changes_t = changes.transpose(0, 2, 1)
    upper = np.triu(steps @ changes_t)
    diagonal = upper.reshape(len(upper), -1)[:, :: recent + 1]
    curvature = diagonal.copy()[:, :, None]
    diagonal[diagonal == 0] = 1.0
    inverse = np.linalg.inv(upper)
    column = gradient[:, :, None]
    u = inverse @ (steps @ column)
    gamma = scale[:, :, None]
    inner = curvature * u + gamma * (changes @ (changes_t @ u - column))
    w = inverse.transpose(0, 2, 1) @ inner
    product: Array = gamma * (column - changes_t @ u) + steps.transpose(0, 2, 1) @ w
    return product[:, :, 0]


def _remember(pairs: Array, scale: Array, step: Array, change: Array) -> Array:
    """Put the newest pair in place of the oldest; returns the scale ``sᵀy / yᵀy`` that it implies.

    Where the curvature along the step is not positive the pair is left out.
    """
    m = pairs.shape[1] // 2
    curvature, square = (step * change).sum(1, keepdims=True), (change * change).sum(1, keepdims=True)
    good = curvature > 1e-16 * square
    pairs[:, : m - 1], pairs[:, m:-1] = pairs[:, 1:m], pairs[:, m + 1 :]
    pairs[:, m - 1], pairs[:, -1] = step, change
    if good.all():
        return curvature / square
    pairs[~good[:, 0], m - 1 :: m] = 0.0
    return np.where(good, curvature / np.maximum(square, 1e-300), scale)


def _wolfe_step(
    problems: Problems, x: Array, value: Array, gradient: Array, direction: Array
) -> tuple[Array, Array, Array, Array]:
    """Step lengths that meet the weak Wolfe conditions, by bisection and doubling (Lewis and Overton, 2013).

    Returns:
        Parameters, values and gradients reached, and the lengths; 0 where no length lowers the value.
    """
    slope = (gradient * direction).sum(1)
    length = np.ones_like(value)
    low: Any = np.zeros_like(value)
    high: Any = np.full_like(value, np.inf)
    searching = np.ones_like(value, dtype=bool)
    for _ in range(LONGEST_SEARCH):
        moved = x + length[:, None] * direction
        new_value, new_gradient = problems.evaluate(moved)
        # written so that a value that is not a number counts as too long
        too_long = ~(new_value <= value + ARMIJO * length * slope)
        too_short = ~too_long & ((new_gradient * direction).sum(1) < CURVATURE * slope)
        searching = too_long | too_short
        if not searching.any():
            return moved, new_value, new_gradient, length[:, None]
        high, low = np.where(too_long, length, high), np.where(too_short, length, low)
        middle = np.where(np.isinf(high), 2 * low, (low + np.minimum(high, 1e300)) / 2)
        length = np.where(searching, middle, length)
    # some search has not ended: take the longest length known to lower the value, 0 where there is none
    length = np.where(searching, low, length)
    moved = x + length[:, None] * direction
    return moved, *problems.evaluate(moved), length[:, None]
