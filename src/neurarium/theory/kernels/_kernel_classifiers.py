"""Classifiers of infinitely wide networks, at any depth and at infinite depth."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TypeVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from neurarium.theory.kernels._deep_kernel import LogKernel, log_deep_kernel, sphere_gap, unit_rows
from neurarium.theory.kernels._depth_limit import classify_activation, limit_kernel
from neurarium.theory.kernels._dual_activation import Activation, DualActivation

C = TypeVar("C", bound="KernelClassifier")
CHUNK = 4_000_000
"""Entries of a kernel matrix that are made at a time."""
GRID = torch.cat(
    [
        torch.zeros(1, dtype=torch.float64),
        torch.logspace(-32, -8, 200, dtype=torch.float64),
        torch.logspace(-8, -0.5, 1201, dtype=torch.float64)[1:],
        torch.linspace(10**-0.5, 2 - 10**-0.5, 400, dtype=torch.float64)[1:],
        2 - torch.logspace(-0.5, -12, 400, dtype=torch.float64)[1:],  # odd activations are singular at 2 as well
        torch.full((1,), 2.0, dtype=torch.float64),
    ]
)
"""Gaps at which a kernel is computed."""


class KernelClassifier(ABC):
    """What both classifiers share: labels of any kind as +1 and -1 columns, and rows in chunks.

    Attributes:
        classes: the labels that occurred, in order.
    """

    classes: Tensor
    _x: Tensor
    _targets: Tensor

    def fit(self: C, X: Float[Tensor, "n features"], y: Tensor) -> C:
        """Keep the examples, and solve for their weights where there is something to solve.

        Args:
            X: examples.
            y: labels [n], whole numbers.

        Raises:
            ValueError: X and y differ in length, there is no example, or X is not what the kernel takes.
        """
        if len(X) != len(y) or not len(X):
            raise ValueError(f"X and y must have the same number of examples, at least one; got {len(X)} and {len(y)}")
        if y.is_floating_point():
            raise ValueError("y must hold whole numbers, one label per example")
        self.classes, place = y.unique(return_inverse=True)
        signs = 2 * torch.nn.functional.one_hot(place.flatten(), len(self.classes)).to(X.device, torch.float64) - 1
        self._x, self._targets = X, signs
        self._prepare()
        return self

    def decision_function(self, X: Float[Tensor, "m features"]) -> Float[Tensor, "m classes"]:
        """A score per class, each row divided by its largest kernel value.

        Args:
            X: where to answer.
        """
        rows = max(CHUNK // len(self._x), 1)
        return torch.cat([self._scores(part) for part in X.split(rows)]).to(X.dtype)

    def predict(self, X: Float[Tensor, "m features"]) -> Tensor:
        """The label of the highest score, of the type of the labels that were fitted."""
        return self.classes[self.decision_function(X).argmax(1).to(self.classes.device)]

    def _prepare(self) -> None:  # noqa: B027 - most have nothing to solve
        """Whatever has to be solved."""

    @abstractmethod
    def _scores(self, x: Tensor) -> Tensor:
        """Float64 scores of some rows."""


@final
class SingularKernelClassifier(KernelClassifier):
    """sign sum_i y_i / ||x - x_i||^alpha: the Hilbert kernel estimate, in any space with Euclidean distances.

    With alpha equal to the dimension of the data its error tends to the Bayes error, whatever the distribution's
    density (Devroye, Gyorfi and Krzyzak, 1998). alpha = 0 is the vote of the majority, alpha = infinity the nearest
    neighbour. At an example itself the answer is its label, or the mean of the labels that lie there.

    Args:
        alpha: exponent, at least 0.

    Raises:
        ValueError: alpha is negative.
    """

    def __init__(self, alpha: float) -> None:
        if not alpha >= 0:
            raise ValueError(f"alpha must be at least 0, not {alpha}")
        self.alpha = alpha

    def _scores(self, x: Tensor) -> Tensor:
        weights = inverse_distance(x, self._x, self.alpha)
        return weights @ self._targets / weights.sum(1, keepdim=True)


@final
class DeepKernelClassifier(KernelClassifier):
    """The network of infinite width, trained to the end on squared error: K(x, X) K(X, X)^-1 y, and its deep limit.

    Inputs are rows of unit length. The kernel is computed once on a grid of distances, in logarithms, and interpolated;
    its cost does not grow with the number of examples. Every row, and the Gram matrix, are scaled to a largest entry of
    1, which changes no sign.

    Args:
        activation: function or Hermite coefficients.
        depth: hidden layers; ``math.inf`` for the limit that `classify_activation` names.
        ridge: added to the diagonal of the scaled Gram matrix. 1e-9 is interpolation up to rounding: the Gram matrix
            of a shallow polynomial network is singular.

    Raises:
        ValueError: depth is below 1, or infinite for an activation without a limit.
    """

    def __init__(
        self, activation: Activation | DualActivation, depth: float = math.inf, *, ridge: float = 1e-9
    ) -> None:
        if not depth >= 1:
            raise ValueError(f"depth must be at least 1, not {depth}")
        self.dual = activation if isinstance(activation, DualActivation) else DualActivation(activation)
        self.depth, self.ridge = depth, ridge
        self.limit = classify_activation(self.dual)
        if math.isinf(depth) and math.isnan(self.limit.alpha):
            raise ValueError(f"there is no classifier at infinite depth: {self.limit.reason}")
        if not math.isinf(depth):
            self._values = log_deep_kernel(self.dual, GRID, int(depth))
        elif self.limit.kind == "singular":
            self._values = limit_kernel(self.dual, GRID)

    def _prepare(self) -> None:
        self._x = unit_rows(self._x, "X")
        self._weights = self._targets
        if not math.isinf(self.depth):
            gram = _row_scaled(self._kernel(self._x))  # all rows have the diagonal as their largest entry
            gram.diagonal().add_(self.ridge)
            self._weights = torch.linalg.solve(gram, self._targets)

    def _scores(self, x: Tensor) -> Tensor:
        if math.isinf(self.depth) and self.limit.kind != "singular":
            return inverse_distance(unit_rows(x, "X"), self._x, self.limit.alpha) @ self._weights
        return _row_scaled(self._kernel(x)) @ self._weights

    def _kernel(self, x: Tensor) -> LogKernel:
        gap = sphere_gap(x, self._x, "X")
        found = interpolate(GRID.to(x.device), LogKernel(*(part.to(x.device) for part in self._values)), gap)
        if bool((found.log == -math.inf).all(1).any()):
            raise ValueError(f"at depth {self.depth} the kernel vanishes even in logarithms; use depth=math.inf")
        return found


def inverse_distance(x1: Tensor, x2: Tensor, alpha: float) -> Tensor:
    """1 / distance^alpha for every pair in float64, each row divided by its largest."""
    distance = torch.cdist(x1.double(), x2.double(), compute_mode="donot_use_mm_for_euclid_dist")
    if math.isinf(alpha):
        return (distance == distance.min(1, keepdim=True).values).double()
    if alpha == 0:
        return torch.ones_like(distance)
    return _row_scaled(LogKernel(-alpha * distance.log(), torch.ones_like(distance)))


def interpolate(grid: Tensor, values: LogKernel, at: Tensor) -> LogKernel:
    """A kernel between the points of a grid of gaps, piecewise linear in log |K| over log gap, hence monotone.

    Where the sign changes from one point to the next, K itself is linear. The grid begins with 0, the diagonal.
    """
    logs, signs = values
    log_grid = grid[1:].log()
    slope = (logs[2:] - logs[1:-1]) / log_grid.diff()
    start = logs[1:-1] - slope * log_grid[:-1]  # log K = start + slope log gap within a cell
    flat = ~slope.isfinite()  # both ends are 0, or one of them
    slope, start = torch.where(flat, 0.0, slope), torch.where(flat, torch.minimum(logs[1:-1], logs[2:]), start)
    cell = (torch.searchsorted(grid, at) - 2).clamp(0, len(slope) - 1)
    log, sign = start[cell] + slope[cell] * at.clamp_min(grid[1]).log(), signs[1:-1][cell]
    log = torch.where(at > 0, log, logs[0])
    turns = signs[1:-1] != signs[2:]
    if bool(turns.any()) and bool((crossing := turns[cell]).any()):
        left = cell[crossing] + 1
        share = (at[crossing] - grid[left]) / (grid[left + 1] - grid[left])
        top = torch.maximum(logs[left], logs[left + 1])
        near, far = (signs[i] * (logs[i] - top).exp() for i in (left, left + 1))
        found = near + share * (far - near)
        log[crossing], sign[crossing] = top + found.abs().log(), found.sign()
    return LogKernel(log, sign)


def _row_scaled(kernel: LogKernel) -> Tensor:
    """K in plain numbers, each row divided by its largest entry; where that is infinite, 1 there and 0 elsewhere."""
    top = kernel.log.max(1, keepdim=True).values
    infinite = top == math.inf
    plain = kernel.sign * (kernel.log - torch.where(infinite, 0.0, top)).exp()
    return torch.where(infinite, (kernel.log == math.inf).double(), plain)
