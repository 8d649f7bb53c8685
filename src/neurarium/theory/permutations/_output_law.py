"""Permutations from unit vectors: what a trained network answers, and how many have to be averaged.

A network of one infinitely wide layer of rectifiers, trained on e_i -> P e_i, is a Gaussian process whose kernels on
the unit vectors are of the form s 1 + c 11'. Everything about an input with m ones follows in closed form (Giapitzakis,
Back de Luca and Fountoulakis, 2025; the closed forms are ours).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from neurarium.theory.kernels._relu_dual import relu_dual, relu_dual_derivative

B = 1 / (2 * math.pi)
"""k times both kernels between different unit vectors; the tangent kernel adds 1 - B on the diagonal."""


@dataclass(frozen=True)
class OutputLaw:
    """Outputs of one trained network for an input with some ones; every output is an independent Gaussian.

    Args:
        on_mean: of outputs whose target is 1.
        off_mean: of outputs whose target is 0; below 0 for two ones or more.
        variance: of each.
    """

    on_mean: float
    off_mean: float
    variance: float


def permutation_output_law(k: int, ones: int, time: float = math.inf) -> OutputLaw:
    """The law of a two-layer network of infinite width trained on the k unit vectors.

    Weights in the NTK parametrisation without biases, half the sum of squared errors, gradient flow.

    Args:
        k: bits.
        ones: set bits of the input, which is divided by the root of their number.
        time: learning rate times steps; infinite for the end of training.

    Raises:
        ValueError: k is below 2, ones not between 1 and k, or time negative.
    """
    _check(k, ones)
    if not time >= 0:
        raise ValueError(f"time must not be negative, not {time}")
    tangent, covariance = _similarity(ones)
    whole, single = 1 - B + k * B, 1 - B  # k times the tangent kernel's eigenvalues: of (1, ..., 1), and all others
    mean = (ones * tangent + (k - ones) * B) / k
    grown, parted = -math.expm1(-time * whole / k) / whole, -math.expm1(-time * single / k) / single
    on, off = (parted * (value - mean) + grown * mean for value in (tangent, B))
    total, squares = ones * on + (k - ones) * off, ones * on**2 + (k - ones) * off**2
    variance = 0.5 + (0.5 - B) * squares + B * total**2 - 2 * (ones * on * covariance + (k - ones) * off * B)
    return OutputLaw(on, off, max(variance, 0.0) / k)


def asymptotic_output_law(ones: int) -> OutputLaw:
    """What `permutation_output_law` tends to for many bits: its on_mean, k times its off_mean, k times its variance.

    Args:
        ones: set bits, at least 1.
    """
    _check(max(ones, 2), ones)
    tangent, covariance = _similarity(ones)
    on = (tangent - B) / (1 - B)
    variance = 0.5 + (0.5 - B) * ones * on**2 + B - 2 * (ones * on * covariance + (1 - ones * on) * B)
    return OutputLaw(on, 1 - ones * on, max(variance, 0.0))


def required_ensemble_size(
    k: int, delta: float, scope: Literal["input", "all"] = "input", ones: int = 2
) -> int:  # fmt: skip
    """The least number of networks whose rounded mean is right with probability 1 - delta, by the union bound.

    Probabilities of wrong bits, Phi(-|mean| sqrt(N) / sd), are summed over the bits of one input, or over all bits of
    all 2^k - 1 inputs. Inputs with a single one are those learned and are never wrong.

    Args:
        k: bits.
        delta: probability of any error that is allowed, between 0 and 1.
        scope: "input" for one input with ``ones`` ones, "all" for all inputs at once.
        ones: set bits, from 2 on; the fewer, the harder.

    Raises:
        ValueError: an argument is out of its range.
    """
    _check(k, ones)
    if not 0 < delta < 1:
        raise ValueError(f"delta must be between 0 and 1, not {delta}")
    if scope not in ("input", "all"):
        raise ValueError(f"scope must be 'input' or 'all', not {scope!r}")
    if scope == "input" and ones == 1:
        return 1
    numbers = np.arange(2, k + 1) if scope == "all" else np.array([ones])
    laws = [permutation_output_law(k, int(m)) for m in numbers]
    on, off = (np.array([getattr(law, name) / law.variance**0.5 for law in laws]) for name in ("on_mean", "off_mean"))
    inputs = np.array([_log_comb(k, int(m)) if scope == "all" else 0.0 for m in numbers])
    with np.errstate(divide="ignore"):
        weights = inputs + np.log(np.stack([numbers, k - numbers]))

    def log_errors(size: int) -> float:
        from scipy.special import log_ndtr, logsumexp

        return float(logsumexp(weights + log_ndtr(np.stack([-on, off]) * math.sqrt(size))))

    low, high = 0, 1
    while log_errors(high) > math.log(delta):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if log_errors(middle) > math.log(delta) else (low, middle)
    return high


def _similarity(ones: int) -> tuple[float, float]:
    """k times the tangent kernel and the covariance between an input and a unit vector on its support."""
    c = torch.tensor(1 / math.sqrt(ones), dtype=torch.float64)
    covariance = float(relu_dual(c))
    return covariance + float(c * relu_dual_derivative(c)), covariance


def _log_comb(n: int, m: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(m + 1) - math.lgamma(n - m + 1)


def _check(k: int, ones: int) -> None:
    if k < 2:
        raise ValueError(f"k must be at least 2, not {k}")
    if not 1 <= ones <= k:
        raise ValueError(f"ones must be between 1 and {k}, not {ones}")
