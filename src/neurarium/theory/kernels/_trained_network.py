"""The law of what networks of infinite width answer after training (Lee et al., 2019)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from neurarium.theory.kernels._deep_kernel import log_deep_kernel, sphere_gap
from neurarium.theory.kernels._dual_activation import Activation, DualActivation


@dataclass(frozen=True)
class GaussianLaw:
    """Outputs of networks that differ in their initial weights; the outputs of one network are independent.

    Args:
        mean: [tests, outputs].
        variance: [tests], of every output.
    """

    mean: Float[Tensor, "tests outputs"]
    variance: Float[Tensor, " tests"]


def trained_network_law(
    train_x: Float[Tensor, "examples features"],
    train_y: Float[Tensor, "examples outputs"],
    test_x: Float[Tensor, "tests features"],
    *,
    depth: int = 1,
    activation: Activation | DualActivation = torch.relu,
    scale: float = 1.0,
    time: float = math.inf,
) -> GaussianLaw:
    """Mean and variance after gradient flow on half the sum of squared errors, from random initial weights.

    With A = T(x, X) T(X, X)^-1 (1 - exp(-time T(X, X))), T the tangent kernel and K the covariance at the start, the
    mean is A Y and the variance K(x, x) + A K(X, X) A' - 2 A K(X, x).

    Args:
        train_x: rows of unit length.
        train_y: targets.
        test_x: rows of unit length.
        depth: hidden layers.
        activation: function or Hermite coefficients.
        scale: of both kernels; E phi(z)^2 / features for `neurarium.models.NTKMLP`. The mean at the end does not depend
            on it.
        time: learning rate times steps; infinite for the end of training.

    Raises:
        ValueError: rows are not of unit length, time is negative, or two training inputs are the same.
    """
    if not time >= 0:
        raise ValueError(f"time must not be negative, not {time}")
    dual = activation if isinstance(activation, DualActivation) else DualActivation(activation)

    def kernels(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        found = [log_deep_kernel(dual, sphere_gap(a, b), depth, kind) for kind in ("ntk", "nngp")]
        return found[0].sign * found[0].log.exp() * scale, found[1].sign * found[1].log.exp() * scale

    (tangent, covariance), (t_test, k_test) = kernels(train_x, train_x), kernels(test_x, train_x)
    rates, modes = torch.linalg.eigh(tangent)
    if float(rates[0]) < 1e-12 * float(rates[-1]):
        raise ValueError("the kernel of train_x is singular: are two of its rows the same?")
    answer = t_test @ modes * (-torch.expm1(-time * rates) / rates) @ modes.T
    variance = scale + ((answer @ covariance) * answer).sum(1) - 2 * (answer * k_test).sum(1)
    return GaussianLaw((answer @ train_y.double()).to(test_x.dtype), variance.clamp_min(0).to(test_x.dtype))
