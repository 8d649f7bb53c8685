"""Signal and noise in Hebbian networks of any order that saw only noisy examples of the patterns they should hold.

Network, normalisation and words are those of `neurarium.learning.HebbianMemory`: energy ``-(N / P c) sum x^P`` over the
class means (supervised, one row a pattern) or over all examples (unsupervised, M rows a pattern, each weighted 1 / M),
where x is a row's overlap with the state. Agliari et al. (2023), Physica A 626 and 627. Here: the noise, what one step
of the dynamics makes of it, and overlaps as losses. `replica_symmetric` says in which state the network settles.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Training = Literal["supervised", "unsupervised"]
Contact = Literal["all", "distinct"]
Number = float | int | Tensor


def dataset_entropy(quality: Number, examples: Number, order: int = 1) -> Tensor:
    """rho_P = ``(1 - r^2P) / (M r^2P)``: variance over squared mean of the average of P-entry products.

    With a teacher only ``order=1`` matters; without one P-body learning feels ``order=P``.

    Args:
        quality: r in (0, 1]; an entry of an example equals the pattern's with probability (1 + r) / 2.
        examples: M > 0 per pattern.
        order: P.

    Raises:
        ValueError: quality or examples out of range.
    """
    r, count = real(quality), real(examples)
    if bool((r <= 0).any()) or bool((r > 1).any()):
        raise ValueError("quality must be in (0, 1]")
    if bool((count <= 0).any()):
        raise ValueError("examples must be positive")
    power = r ** (2 * order)
    return (1 - power) / (count * power)


def crosstalk(order: int, q: Number, quality: Number, examples: Number, training: Training, contact: Contact) -> Tensor:
    """Variance of the field's crosstalk per unit of load, for two replicas of overlap ``q`` (at 1: one state's own).

    Rows of other patterns meet the state at Gaussian overlaps. A pair of rows with correlated entries (c = 1 for one
    row with itself, r^2 for two examples of one pattern) contributes ``c G(c q)``, where ``G(c)`` is
    ``E[u^(P-1) v^(P-1)]`` at correlation c for plain powers and its top term ``(P-1)! c^(P-1)`` for distinct indices.
    The supervised sum is ``(1 + rho)^P G(q)``; the unsupervised one is
    ``[G(q) / M + (1 - 1/M) r^2 G(r^2 q)] / r^2P``, for distinct indices ``(P-1)! (1 + rho_P) q^(P-1)``.
    """
    q, r = real(q), real(quality)
    entropy = dataset_entropy(quality, examples)
    if training == "supervised":
        return (1 + entropy) ** order * _gaussian_moment(order, q, contact)
    share = 1 / real(examples)
    same, other = _gaussian_moment(order, q, contact), _gaussian_moment(order, r**2 * q, contact)
    return (share * same + (1 - share) * r**2 * other) / r ** (2 * order)


def one_step_overlap(
    order: int,
    load: Number,
    quality: Number = 1.0,
    examples: Number = 1,
    *,
    training: Training = "supervised",
    contact: Contact = "all",
) -> Tensor:
    """Overlap with a hidden pattern after one parallel update at T = 0 that starts on it: ``erf(1 / sqrt(2 noise))``.

    Args:
        order: P, even.
        load: alpha = K / N^(P-1); 0 for a few patterns.
        quality: r.
        examples: M; with quality 1 it does not matter.
        training: ``"supervised"`` (class means are stored) or ``"unsupervised"`` (examples are).
        contact: ``"all"`` (plain powers) or ``"distinct"`` (all P indices different).

    Returns:
        Float64, in the arguments' broadcast shape.

    Raises:
        ValueError: an argument is out of its range.
    """
    check(order, training, contact)
    noise = dataset_entropy(quality, examples) + real(load) * crosstalk(
        order, 1.0, quality, examples, training, contact
    )
    return torch.erf(1 / (2 * noise).sqrt())


def examples_needed(
    order: int,
    load: float,
    quality: float,
    overlap: float = 0.95,
    *,
    training: Training = "supervised",
    contact: Contact = "all",
) -> float:
    """M at which `one_step_overlap` reaches ``overlap``; not rounded, so that its growth with 1 / r can be read off.

    At low load this is ``(1 - r^2) / (rho_c r^2)`` with or without a teacher (rho_c = 0.26 for 0.95); at high load it
    grows as ``r^-2`` with and as ``r^-2P`` without one.

    Raises:
        ValueError: the load is too high for any number of examples, or an argument is out of its range.
    """
    if not 0 < overlap < 1:
        raise ValueError(f"overlap must be between 0 and 1, not {overlap}")

    def reached(count: float) -> bool:
        return float(one_step_overlap(order, load, quality, count, training=training, contact=contact)) >= overlap

    if not reached(1e12):
        raise ValueError(f"load {load} leaves an overlap below {overlap} however many examples of quality {quality}")
    return math.exp(edge(lambda log: not reached(math.exp(log)), math.log(1e-3), math.log(1e12)))


def loss_from_overlap(overlap: Number) -> Tensor:
    """L = L+ L- = ``1 - m^2`` of a state of +-1 entries, where ``L+- = |pattern -+ state|^2 / 2N = 1 -+ m``."""
    return 1 - real(overlap).square()


def overlap_from_loss(loss: Number) -> Tensor:
    """The inverse of `loss_from_overlap` up to the overlap's sign: ``sqrt(1 - L)``.

    Raises:
        ValueError: a loss outside [0, 1].
    """
    value = real(loss)
    if bool((value < 0).any()) or bool((value > 1).any()):
        raise ValueError("loss must be between 0 and 1")
    return (1 - value).sqrt()


def _gaussian_moment(order: int, correlation: Tensor, contact: Contact) -> Tensor:
    """E[u^k v^k], k = P - 1, of standard Gaussians, by Hermite polynomials; only the top one for distinct indices."""
    k = order - 1
    if contact == "distinct":
        return math.factorial(k) * correlation**k
    terms = (
        (math.comb(k, j) * _odd_product(k - j - 1)) ** 2 * math.factorial(j) * correlation**j
        for j in range(k % 2, k + 1, 2)
    )
    return torch.stack(list(terms)).sum(0)


def _odd_product(last: int) -> int:
    """``1 * 3 * ... * last``; 1 for last = -1."""
    return math.prod(range(1, last + 1, 2))


def edge(inside: Callable[[float], bool], low: float, high: float, relative: float = 1e-6) -> float:
    """Bisection: the border between ``low``, where ``inside`` holds, and ``high``, where it does not."""
    while abs(high - low) > relative * max(abs(low), abs(high)):
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle) else (low, middle)
    return (low + high) / 2


def real(value: Number) -> Tensor:
    """As float64."""
    return torch.as_tensor(value, dtype=torch.float64)


def check(order: int, training: str, contact: str) -> None:
    """Refuses an order that is not even, and unknown names.

    Raises:
        ValueError: says which.
    """
    if order < 2 or order % 2:
        raise ValueError(f"order must be even and at least 2, not {order}")
    if training not in ("supervised", "unsupervised"):
        raise ValueError(f"training must be supervised or unsupervised, not {training!r}")
    if contact not in ("all", "distinct"):
        raise ValueError(f"contact must be all or distinct, not {contact!r}")
