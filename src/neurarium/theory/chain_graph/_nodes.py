"""What the units of a layer are, given their inputs: random variables whose expectation is the layer's activation."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neurarium.layers import RectifiedGaussian

Units = Float[Tensor, "..."]
QUADRATURE = 20
DIRECTIONS = 32


class Node(ABC):
    """A family of laws with one parameter per unit, its input ``e``; ``mean`` is the activation function.

    ``variance`` arguments say that the input is itself normal around ``e``: its effect is integrated out.
    """

    @abstractmethod
    def mean(self, e: Units, variance: Units | None = None) -> Units:
        """Expectation of the units."""

    @abstractmethod
    def variance(self, e: Units, variance: Units | None = None) -> Units:
        """Their variance."""

    @abstractmethod
    def draw(self, e: Units, variance: Units | None = None, generator: torch.Generator | None = None) -> Units:
        """States of the units; the gradient is that of the draw, or of the expectation where states are discrete."""

    @abstractmethod
    def log_prob(self, x: Units, e: Units) -> Units:
        """Log-probability (or density) of states, unit by unit; of a whole group for the categorical."""


@dataclass(frozen=True)
class TwoValued(Node):
    """Units that are ``low`` or ``high`` with probabilities in proportion to ``exp(e x)``.

    0 and 1 give the sigmoid, -1 and 1 the hyperbolic tangent.
    """

    low: float = 0.0
    high: float = 1.0

    def mean(self, e: Units, variance: Units | None = None) -> Units:
        """By Gauss-Hermite quadrature with 20 points where the input is normal."""
        return self.low + (self.high - self.low) * self._share(e, variance)

    def variance(self, e: Units, variance: Units | None = None) -> Units:
        """``(high - low)² p (1 - p)``: it is that of two values, however the input came about."""
        p = self._share(e, variance)
        return (self.high - self.low) ** 2 * p * (1 - p)

    def draw(self, e: Units, variance: Units | None = None, generator: torch.Generator | None = None) -> Units:
        """Either value; the gradient is that of the mean."""
        p = self._share(e, variance)
        device = e.device if generator is None else generator.device
        coin = (torch.rand(e.shape, generator=generator, device=device).to(p) < p).to(p)
        return self.low + (self.high - self.low) * (coin + p - p.detach())

    def log_prob(self, x: Units, e: Units) -> Units:
        """Of states that are ``low`` or ``high``."""
        sign = torch.where(x > (self.low + self.high) / 2, 1.0, -1.0).to(e)
        return torch.nn.functional.logsigmoid(sign * (self.high - self.low) * e)

    def _share(self, e: Tensor, variance: Tensor | None) -> Tensor:
        width = self.high - self.low
        return normal_average(lambda at: (width * at).sigmoid(), e, variance)


@dataclass(frozen=True)
class Categorical(Node):
    """One group of units along the last dimension, of which one is 1: the softmax."""

    def mean(self, e: Units, variance: Units | None = None) -> Units:
        """The softmax; over normal inputs (variances [..., K] or [..., K, K]) its average at 64 fixed points."""
        if variance is None:
            return e.softmax(-1)
        root = _root(variance) if variance.dim() > e.dim() else torch.diag_embed(variance.clamp_min(0).sqrt())
        points = fixed_normals(e.shape[-1]).to(e)
        shifts = torch.einsum("...kl,pl->p...k", root, points)
        return ((e + shifts).softmax(-1).mean(0) + (e - shifts).softmax(-1).mean(0)) / 2

    def variance(self, e: Units, variance: Units | None = None) -> Units:
        """Of each unit alone."""
        p = self.mean(e, variance)
        return p * (1 - p)

    def draw(self, e: Units, variance: Units | None = None, generator: torch.Generator | None = None) -> Units:
        """One unit of the group is 1; the gradient is that of the mean."""
        p = self.mean(e, variance)
        device = e.device if generator is None else generator.device
        threshold = torch.rand((*e.shape[:-1], 1), generator=generator, device=device).to(p)
        place = (p.detach().cumsum(-1) < threshold).sum(-1).clamp(max=e.shape[-1] - 1)
        return torch.nn.functional.one_hot(place, e.shape[-1]).to(p) + p - p.detach()

    def log_prob(self, x: Units, e: Units) -> Units:
        """Of one-hot states, [...] without the last dimension."""
        return (x * e.log_softmax(-1)).sum(-1)


@dataclass(frozen=True)
class Gaussian(Node):
    """Units that are normal around their input with one deviation; 0 for none: a linear layer."""

    deviation: float = 0.0

    def mean(self, e: Units, variance: Units | None = None) -> Units:
        """The input."""
        return e

    def variance(self, e: Units, variance: Units | None = None) -> Units:
        """The deviation squared, and the input's variance."""
        own = torch.full_like(e, self.deviation**2)
        return own if variance is None else own + variance

    def draw(self, e: Units, variance: Units | None = None, generator: torch.Generator | None = None) -> Units:
        """A normal number, differentiable."""
        device = e.device if generator is None else generator.device
        spread = self.variance(e, variance).clamp_min(0).sqrt()
        return e + spread * torch.randn(e.shape, generator=generator, device=device).to(e)

    def log_prob(self, x: Units, e: Units) -> Units:
        """Log-density.

        Raises:
            ValueError: the deviation is 0, and there is none.
        """
        if self.deviation == 0:
            raise ValueError("units of deviation 0 have no density: give the Gaussian node a deviation")
        scaled = ((x - e) / self.deviation).square()
        return -scaled / 2 - math.log(self.deviation) - math.log(2 * math.pi) / 2


@dataclass(frozen=True)
class Rectified(Node):
    """Units ``max(slope Y, Y)`` of a normal Y: ReLU, leaky ReLU, softplus; see `neurarium.layers.RectifiedGaussian`."""

    layer: RectifiedGaussian = field(default_factory=RectifiedGaussian)

    def mean(self, e: Units, variance: Units | None = None) -> Units:
        """In closed form, the input's variance added to the unit's own."""
        return self.layer.mean(e, variance)

    def variance(self, e: Units, variance: Units | None = None) -> Units:
        """In closed form."""
        return self.layer.variance(e, variance)

    def draw(self, e: Units, variance: Units | None = None, generator: torch.Generator | None = None) -> Units:
        """Differentiable."""
        return self.layer.draw(e, variance, generator)

    def log_prob(self, x: Units, e: Units) -> Units:
        """Log-density; log-mass of zero."""
        return self.layer.log_prob(x, e)


@dataclass(frozen=True)
class Certain(Node):
    """Units that are a function of their input for certain: any activation, taken as it is."""

    function: Callable[[Tensor], Tensor]

    def mean(self, e: Units, variance: Units | None = None) -> Units:
        """The function; its average by quadrature over normal inputs."""
        return normal_average(self.function, e, variance)

    def variance(self, e: Units, variance: Units | None = None) -> Units:
        """None of its own."""
        if variance is None:
            return torch.zeros_like(e)
        second = normal_average(lambda at: self.function(at).square(), e, variance)
        return (second - self.mean(e, variance).square()).clamp_min(0)

    def draw(self, e: Units, variance: Units | None = None, generator: torch.Generator | None = None) -> Units:
        """The function of a drawn input."""
        return self.function(e if variance is None else Gaussian().draw(e, variance, generator))

    def log_prob(self, x: Units, e: Units) -> Units:
        """0 at the function's value, else minus infinity."""
        return torch.where(x == self.function(e), 0.0, -torch.inf).to(e)


@dataclass(frozen=True)
class Gated(Node):
    """Units that let their input through with a probability that depends on it, and are 0 else: GELU and SiLU.

    GELU was introduced as this expectation, ``e Phi(e)``; the paper has no such node.

    Args:
        gate: probability of letting an input through.
    """

    gate: Callable[[Tensor], Tensor]

    def mean(self, e: Units, variance: Units | None = None) -> Units:
        """``e gate(e)``; its average by quadrature over normal inputs."""
        return normal_average(lambda at: at * self.gate(at), e, variance)

    def variance(self, e: Units, variance: Units | None = None) -> Units:
        """``e² gate (1 - gate)`` for certain inputs."""
        second = normal_average(lambda at: at.square() * self.gate(at), e, variance)
        return (second - self.mean(e, variance).square()).clamp_min(0)

    def draw(self, e: Units, variance: Units | None = None, generator: torch.Generator | None = None) -> Units:
        """The input or 0; the gradient is that of the mean."""
        if variance is not None:
            e = Gaussian().draw(e, variance, generator)
        mean = e * self.gate(e)
        device = e.device if generator is None else generator.device
        coin = torch.rand(e.shape, generator=generator, device=device).to(e) < self.gate(e)
        return mean + (e * coin - mean).detach()

    def log_prob(self, x: Units, e: Units) -> Units:
        """Of the input, or of 0."""
        p = self.gate(e)
        return torch.where(x == e, p.log(), torch.where(x == 0, torch.log1p(-p), -torch.inf))


def normal_average(function: Callable[[Tensor], Tensor], mean: Tensor, variance: Tensor | None) -> Tensor:
    """``E function(N(mean, variance))`` by Gauss-Hermite quadrature; the function itself without a variance."""
    if variance is None:
        return function(mean)
    places, weights = np.polynomial.hermite_e.hermegauss(QUADRATURE)
    spread = variance.clamp_min(0).sqrt()
    total = torch.zeros_like(mean)
    for place, weight in zip(places.tolist(), (weights / weights.sum()).tolist(), strict=True):
        total = total + weight * function(mean + place * spread)
    return total


@cache
def fixed_normals(dimensions: int) -> Float[Tensor, "points dimensions"]:
    """Well-spread standard normal points, the same every time; their negatives complete them."""
    uniform = torch.quasirandom.SobolEngine(dimensions, scramble=True, seed=0).draw(DIRECTIONS, dtype=torch.float64)
    points = torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6))
    return points / points.square().mean(0).sqrt()


def _root(covariance: Float[Tensor, "... k k"]) -> Float[Tensor, "... k k"]:
    """A matrix whose product with its transpose is the covariance, which rounding may have left just short of one."""
    size = covariance.diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(1e-9)[..., None, None]
    jitter = 1e-5 * size * torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    root: Tensor = torch.linalg.cholesky(covariance + jitter)
    return root
