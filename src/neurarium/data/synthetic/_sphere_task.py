"""Two noisy classes on a sphere, with the best possible error known exactly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neurarium.data._arrays import Arrays
from neurarium.data._errors import DataError


@dataclass(frozen=True)
class SphereTask:
    """Directions in the part of the unit sphere of R^(dim + 1) with no negative coordinate, and a wavy border.

    The label is 1 where x_1 - x_2 + 0.3 sin(6 x_last) exceeds ``threshold``, and turned round with probability
    ``noise``, which therefore is the Bayes error.

    Args:
        dim: of the sphere, at least 2.
        noise: probability of a wrong label, from 0 to below 1/2.
        threshold: moves the border, and with it the shares of the classes.

    Raises:
        DataError: dim or noise is out of its range.
    """

    dim: int = 2
    noise: float = 0.2
    threshold: float = 0.0

    def __post_init__(self) -> None:
        if self.dim < 2:
            raise DataError(f"dim must be at least 2, not {self.dim}")
        if not 0 <= self.noise < 0.5:
            raise DataError(f"noise must be from 0 to below 1/2, not {self.noise}")

    def rule(self, x: Tensor) -> Tensor:
        """The class that is the likelier at each row: the Bayes classifier."""
        return (x[:, 0] - x[:, 1] + 0.3 * (6 * x[:, -1]).sin() > self.threshold).long()

    def inputs(self, n: int, generator: torch.Generator) -> Tensor:
        """Rows of unit length in float64 [n, dim + 1], uniform on that part of the sphere."""
        x = torch.randn(n, self.dim + 1, generator=generator, dtype=torch.float64).abs()
        return x / x.norm(dim=1, keepdim=True)

    def draw(self, n: int, generator: torch.Generator) -> Arrays:
        """``n`` examples with noisy labels."""
        x = self.inputs(n, generator)
        wrong = torch.rand(n, generator=generator, dtype=torch.float64) < self.noise
        return Arrays(x, self.rule(x) ^ wrong.long())

    def error(self, x: Tensor, predicted: Tensor) -> float:
        """Expected error of predictions over the labels' noise: exact at these inputs, no label is drawn."""
        wrong = float((self.rule(x).to(predicted) != predicted).double().mean())
        return self.noise + (1 - 2 * self.noise) * wrong
