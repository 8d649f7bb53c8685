"""The dual of an activation: how one layer of infinite width changes the correlation of two inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.layers import HermiteActivation
from neurarium.theory.kernels._gaussian_quadrature import gaussian_nodes, hermite_averages
from neurarium.theory.kernels._relu_dual import relu_dual, relu_dual_derivative, relu_gap, relu_weights
from neurarium.training import copy_module

DEGREE = 256
Activation = Callable[[Tensor], Tensor] | Sequence[float]
"""A function of a tensor, or its coefficients in orthonormal Hermite polynomials."""


class Moments(NamedTuple):
    """What decides where a deep network of an activation phi of unit second moment tends to, z standard normal.

    Args:
        mean: A = E phi(z).
        slope: A' = E phi'(z).
        squared_slope: B' = E phi'(z)^2; infinite where phi jumps.
    """

    mean: float
    slope: float
    squared_slope: float


class DualActivation:
    """f(xi) = E phi(u) phi(v) for standard normals u, v of correlation xi, with phi scaled to E phi(z)^2 = 1.

    f is the power series of the squared Hermite coefficients. A kink at 0 (the rectifier and its leaky relatives) makes
    that series converge slowly; its part is added in closed form, so that these activations are exact, as polynomials
    and smooth functions are. Of activations with kinks elsewhere the mass beyond degree 256 is put at the degree that
    keeps f(1) = 1 and f'(1) = B'.

    Args:
        activation: a function of a tensor, elementwise and differentiable by torch, or Hermite coefficients.

    Attributes:
        weights: squared Hermite coefficients from degree 0 on, those of the kink left out.
        kink: weight of the rectifier's dual; 1 for the rectifier itself.

    Raises:
        ValueError: the activation is 0 everywhere, gives values that are not finite, or is not elementwise.
    """

    def __init__(self, activation: Activation) -> None:
        if isinstance(activation, HermiteActivation):
            activation = activation.coefficients
        self.kink, self._tail_degree, self._tail = 0.0, 0, (0.0, 0.0)
        if callable(activation):
            self._from_function(activation)
        else:
            exact = HermiteActivation(activation).coefficients
            self.weights = torch.tensor([a * a for a in exact], dtype=torch.float64)
            slope = exact[1] if len(exact) > 1 else 0.0
            self.moments = Moments(exact[0], slope, float((self.weights * torch.arange(len(exact))).sum()))
        merged = torch.zeros(max(len(self.weights), 80), dtype=torch.float64)
        merged[: len(self.weights)] = self.weights
        merged[:80] += self.kink * relu_weights(79)
        rise = merged[1:80] * torch.arange(1, 80)
        self._small = tuple(_from_lowest(series.tolist()) for series in (merged[:80], rise))  # enough to |xi| = 1/2
        self._degrees = self.weights.nonzero().flatten()

    def _from_function(self, activation: Callable[[Tensor], Tensor]) -> None:
        if isinstance(activation, nn.Module):
            activation = copy_module(activation).cpu().double().eval()
        function = _checked(activation)
        with torch.no_grad():
            z, w = gaussian_nodes(function, lambda z: _slopes(function, z))
            values = function(z)
            scale = math.sqrt(float((w * values.square()).sum()))
        if scale < 1e-150:
            raise ValueError("activation is 0 everywhere")
        slopes = _slopes(function, z) / scale
        coefficients = hermite_averages(z, w * values / scale, DEGREE)
        below, above = _slopes(function, torch.tensor([-1e-9, 1e-9], dtype=torch.float64)).tolist()
        self.kink = (above - below) ** 2 / (2 * scale**2)
        if self.kink < 1e-12:
            self.kink = 0.0
        mean_slope, squared_slope = float((w * slopes).sum()), float((w * slopes.square()).sum())
        jumps = abs(mean_slope - float(coefficients[1])) > 1e-6  # Stein: E z phi(z) = E phi'(z) unless phi jumps
        found = [0.0 if abs(a) < 1e-12 else float(a) for a in coefficients[:2]]
        self.moments = Moments(found[0], found[1], math.inf if jumps else squared_slope)
        weights = coefficients.square() - self.kink * relu_weights(DEGREE)
        self.weights = weights.where(weights.abs() > 1e-14, 0.0)
        used = self.weights.nonzero().flatten()
        self.weights = self.weights[: int(used[-1]) + 1] if len(used) else self.weights[:1]
        degrees = torch.arange(len(self.weights), dtype=torch.float64)
        mass = 1 - self.kink - float(self.weights.sum())
        if mass > 1e-10 and not jumps:
            degree = max((squared_slope - self.kink - float((degrees * self.weights).sum())) / mass, 0.0)
            self._tail_degree = int(degree)
            self._tail = (mass * (1 + self._tail_degree - degree), mass * (degree - self._tail_degree))

    @property
    def slope_squared(self) -> float:
        """A'^2, what a layer multiplies a small correlation with where A = 0."""
        return self.moments.slope**2

    def value(self, xi: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """f(xi).

        Args:
            xi: correlations in [-1, 1].
        """
        return self._sum(xi, lambda p: xi**p, 2 * relu_dual(xi) if self.kink else None)

    def derivative(self, xi: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """f'(xi) = E phi'(u) phi'(v).

        Args:
            xi: correlations in [-1, 1].
        """
        return self._sum(xi, lambda p: p * xi ** max(p - 1, 0), 2 * relu_dual_derivative(xi) if self.kink else None)

    def gap(self, gap: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """1 - f(1 - gap), to full relative precision however small the gap is.

        Args:
            gap: 1 - xi, in [0, 1).
        """
        log = torch.log1p(-gap)
        return self._sum(gap, lambda p: -torch.expm1(p * log), relu_gap(gap) if self.kink else None)

    def small(self, sign: Tensor, log_size: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """log |f|, sign of f, log |f'| and sign of f' for |xi| <= 1/2, exact however small xi is.

        Args:
            sign: of xi.
            log_size: log |xi|.
        """
        xi = sign * log_size.exp()  # may underflow to 0, which only the lowest degree would notice
        parts: list[Tensor] = []
        for lowest, rest in self._small:
            total = torch.full_like(xi, rest[-1])
            for weight in reversed(rest[:-1]):
                total = total * xi + weight if weight else total * xi
            size, turn = (lowest * log_size, sign**lowest) if lowest else (0.0, 1.0)
            parts += [size + total.abs().log(), total.sign() * turn]
        return parts[0], parts[1], parts[2], parts[3]

    def _sum(self, like: Tensor, term: Callable[[int], Tensor], kink: Tensor | None) -> Tensor:
        total = torch.zeros_like(like) if kink is None else self.kink * kink
        for degree in self._degrees.tolist():
            total = total + float(self.weights[degree]) * term(degree)
        for step, weight in enumerate(self._tail):
            if weight:
                total = total + weight * term(self._tail_degree + step)
        return total

    def __repr__(self) -> str:
        a, slope, squared = self.moments
        return f"DualActivation(A={a:.4g}, A'={slope:.4g}, B'={squared:.4g})"


def _from_lowest(series: list[float]) -> tuple[int, list[float]]:
    """The lowest degree that occurs, and the coefficients from there to the highest."""
    used = [degree for degree, weight in enumerate(series) if weight]
    return (used[0], series[used[0] : used[-1] + 1]) if used else (0, [0.0])


def _checked(activation: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def function(z: Tensor) -> Tensor:
        values = activation(z)
        if not isinstance(values, Tensor) or values.shape != z.shape:
            raise ValueError("activation must give a tensor of its input's shape; is it elementwise?")
        if not bool(torch.isfinite(values).all()):
            raise ValueError("activation gives values that are not finite")
        return values.double()

    return function


def _slopes(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """phi' at every node."""
    with torch.enable_grad():
        z = z.clone().requires_grad_()
        values = function(z)
        if not values.requires_grad:
            return torch.zeros_like(z)
        return torch.autograd.grad(values.sum(), z)[0]
