"""Two penalties that bring neural collapse about where classes are unequal: compact classes, centres far apart."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

KINDS = ("mean_min_angle", "min_angle", "simplex")
ROWS = 1024  # of the matrix of cosines that are held at a time


class NeuralCollapseRegularizer(nn.Module):
    """Pulls features to their class's centre, each class with equal weight, and centres apart (Liu et al., 2023).

    compactness * 1/K sum_k mean over class k of |h - mu_k|^2 + separation * S(mu), where S is minus the angle between
    centred centres: ``"mean_min_angle"`` averages each class's angle to its nearest neighbour, ``"min_angle"`` takes
    the least of all, and ``"simplex"`` is the Frobenius norm of cos + 1/(K-1) off the diagonal. Features feel the first
    term alone; the second moves the centres, which draw the features after them.

    The centres are parameters of this module and not for the model's optimizer: call `step_centers` after each of its
    steps, or `attach` once. Use the module through `FeatureLoss`, or add its value to any loss:

    ```
    penalty = NeuralCollapseRegularizer(num_classes=10, feature_dim=64)
    penalty.attach(optimizer)
    with FeatureLoss(model, cross_entropy, penalty) as loss:
        fit(Backprop(model, loss), loader, optimizer)
    ```

    Args:
        num_classes: K.
        feature_dim: size of a feature.
        compactness: lambda_1, weight of the first term.
        separation: lambda_2, weight of the second; the published ratio of the two is 1 : 10.
        separation_kind: which angle the second term maximises.
        center_lr: rate of the centres' own plain gradient descent, on the gradient divided by ``compactness``.
        generator: of the centres' start, which is standard normal.

    Raises:
        ValueError: an argument out of range, or an unknown kind.

    Warns:
        UserWarning: features have too few dimensions for a simplex of K classes.
    """

    def __init__(
        self,
        num_classes: int,
        feature_dim: int,
        compactness: float = 0.01,
        separation: float = 0.1,
        separation_kind: str = "mean_min_angle",
        center_lr: float = 0.5,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if num_classes < 2 or feature_dim < 1:
            raise ValueError(f"num_classes must be at least 2 and feature_dim 1, not {num_classes} and {feature_dim}")
        if min(compactness, separation, center_lr) < 0:
            raise ValueError("compactness, separation and center_lr must not be negative")
        if separation_kind not in KINDS:
            raise ValueError(f"separation_kind must be one of {', '.join(KINDS)}, not {separation_kind!r}")
        if feature_dim < num_classes - 1:
            warnings.warn(
                f"{num_classes} classes have no simplex in {feature_dim} dimensions; their angles will stay smaller",
                stacklevel=2,
            )
        self.compactness, self.separation = compactness, separation
        self.separation_kind, self.center_lr = separation_kind, center_lr
        self.centers = nn.Parameter(torch.randn(num_classes, feature_dim, generator=generator))

    def forward(self, features: Float[Tensor, "batch features"], target: Int[Tensor, batch]) -> Float[Tensor, ""]:
        """Both terms; classes that are absent from the batch add nothing to the first.

        Raises:
            ValueError: features of another size than the centres.
        """
        total = self.compactness * self.spread(features, target)
        return total + self.separation * self.crowding() if self.separation else total

    def spread(self, features: Float[Tensor, "batch features"], target: Int[Tensor, batch]) -> Float[Tensor, ""]:
        """1/K sum_k mean over the batch's examples of class k of |h - mu_k|^2."""
        classes, size = self.centers.shape
        if features.shape[1] != size:
            raise ValueError(f"features have {features.shape[1]} dimensions, but feature_dim is {size}")
        y = target.long()
        weight = torch.bincount(y, minlength=classes)[y].to(self.centers.dtype).reciprocal()
        distances = (features.to(self.centers.dtype) - self.centers[y]).square().sum(1)
        return (weight * distances).sum() / classes

    def crowding(self) -> Float[Tensor, ""]:
        """Minus the angle between centres in radians (or the distance from a simplex): what separation multiplies."""
        unit = self._directions()
        if self.separation_kind == "simplex":
            k = len(unit)
            apart = unit @ unit.T + 1 / (k - 1)
            return (apart - torch.diag(apart.diagonal())).norm()
        cosines = (unit * unit[nearest_rows(unit)]).sum(1)
        if self.separation_kind == "min_angle":
            cosines = cosines.max()
        return -cosines.clamp(-0.99999, 0.99999).acos().mean()

    @torch.no_grad()
    def angles(self) -> Float[Tensor, classes]:
        """Angle of each centred centre to its nearest neighbour, in degrees."""
        unit = self._directions()
        cosines = (unit * unit[nearest_rows(unit)]).sum(1)
        return cosines.clamp(-1, 1).acos() * (180 / math.pi)

    @torch.no_grad()
    def step_centers(self, *_: Any) -> None:
        """Move the centres by ``center_lr`` times their gradient over ``compactness``, and forget the gradient.

        Takes and ignores the arguments of a callback of `fit`. Where a ``GradScaler`` scales the loss, use
        `center_optimizer` with it instead.
        """
        if self.centers.grad is not None:
            self.centers.sub_(self.centers.grad, alpha=self.center_lr / (self.compactness or 1.0))
            self.centers.grad = None

    def center_optimizer(self) -> torch.optim.SGD:
        """The same update as an optimizer of its own."""
        return torch.optim.SGD([self.centers], lr=self.center_lr / (self.compactness or 1.0))

    def attach(self, optimizer: torch.optim.Optimizer) -> Any:
        """Make the centres follow each step of the model's optimizer; returns a handle whose ``remove()`` ends that."""
        return optimizer.register_step_post_hook(self.step_centers)

    def extra_repr(self) -> str:
        """Shown by print."""
        classes, size = self.centers.shape
        return f"{classes}, {size}, compactness={self.compactness}, separation={self.separation}"

    def _directions(self) -> Tensor:
        return normalize(self.centers - self.centers.mean(0), dim=1, eps=1e-8)


@torch.no_grad()
def nearest_rows(unit: Float[Tensor, "rows features"]) -> Int[Tensor, rows]:
    """For each row the other row with the largest scalar product, some rows at a time."""
    found = []
    for start in range(0, len(unit), ROWS):
        cosines = unit[start : start + ROWS] @ unit.T
        cosines.diagonal(start).fill_(-torch.inf)
        found.append(cosines.argmax(1))
    return torch.cat(found)
