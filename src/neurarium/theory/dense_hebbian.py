"""Theory of dense Hebbian networks at high load: how well N spins hold hidden patterns they saw only noisy examples of.

Network, normalisation and words are those of `neurarium.learning.HebbianMemory`: energy ``-(N / P c) sum x^P`` over the
class means (supervised, one row a pattern) or over all examples (unsupervised, M rows a pattern, each weighted 1 / M),
where x is a row's overlap with the state. Agliari et al. (2023), Physica A 626 and 627, at the replica-symmetric level.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Training = Literal["supervised", "unsupervised"]
Contact = Literal["all", "distinct"]
Number = float | int | Tensor
PHASES = ("ergodic", "spin glass", "retrieval")

_SHARP = 0.03  # temperature over field noise below which the sharp limit is exact to four digits
_U = torch.linspace(-8, 8, 801, dtype=torch.float64)  # trapezoids: exponentially accurate for smooth integrands
_WEIGHTS = torch.softmax(-_U.square() / 2, 0)


@dataclass(frozen=True)
class OrderParameters:
    """A solution of the replica-symmetric equations; float64 tensors of one shape.

    Args:
        m: overlap of the mean state with the hidden pattern, in [0, 1].
        n: overlap with the mean of its examples, divided by the quality r.
        q: Edwards-Anderson parameter, overlap of two replicas, in [0, 1].
        iterations: how many were needed.
    """

    m: Tensor
    n: Tensor
    q: Tensor
    iterations: int

    @property
    def phase(self) -> Tensor:
        """Index into `PHASES`: ergodic (m = q = 0), spin glass (m = 0, q > 0), retrieval (m > 0)."""
        return torch.where(self.m > 0.1, 2, torch.where(self.q > 0.01, 1, 0))


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
    r, count = _real(quality), _real(examples)
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
    q, r = _real(q), _real(quality)
    entropy = dataset_entropy(quality, examples)
    if training == "supervised":
        return (1 + entropy) ** order * _gaussian_moment(order, q, contact)
    share = 1 / _real(examples)
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
    _check(order, training, contact)
    noise = dataset_entropy(quality, examples) + _real(load) * crosstalk(
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
    return math.exp(_edge(lambda log: not reached(math.exp(log)), math.log(1e-3), math.log(1e12)))


def replica_symmetric(
    order: int,
    load: Number,
    temperature: Number,
    quality: Number = 1.0,
    examples: Number = 1,
    *,
    training: Training = "supervised",
    contact: Contact = "all",
    normalization: Literal["signal", "entropy"] = "signal",
    start: Literal["retrieval", "zero"] = "retrieval",
    tolerance: float = 1e-9,
    max_iterations: int = 4000,
) -> OrderParameters:
    """Solves the replica-symmetric equations by damped iteration, for a whole grid of arguments at once.

    ``m = E tanh Theta``, ``q = E tanh^2 Theta``, ``n = m + rho b n^(P-1) (1 - q)`` with the field
    ``Theta = b [n^(P-1) (1 + sqrt(rho) z') + z sqrt(load * crosstalk(q))]`` and b = 1 / temperature. For P = 2 the
    crosstalk is amplified by the network's response b (1 - q) (Amit, Gutfreund and Sompolinsky); without a teacher the
    M rows of a pattern are M modes of size 1 + rho (one) and rho (M - 1), each with its own response.

    Args:
        order: P, even.
        load: alpha = K / N^(P-1).
        temperature: T >= 0 of the network's energy.
        quality: r.
        examples: M.
        training: see `one_step_overlap`.
        contact: see `one_step_overlap`.
        normalization: of the energy, as in ``HebbianMemory``: ``"entropy"`` shrinks the signal by ``(1 + rho)^(P/2)``
            (supervised) or ``(1 + rho_P)^(1/2)`` (unsupervised), which raises the temperature by that factor.
        start: ``"retrieval"`` (m = 1) follows the retrieval state to its spinodal, ``"zero"`` keeps m = 0.
        tolerance: largest change of m and q at the solution.
        max_iterations: after which the last iterate is returned.

    Raises:
        ValueError: an argument is out of its range.
    """
    _check(order, training, contact)
    if normalization not in ("signal", "entropy"):
        raise ValueError(f"normalization must be signal or entropy, not {normalization!r}")
    if start not in ("retrieval", "zero"):
        raise ValueError(f"start must be retrieval or zero, not {start!r}")
    alpha, heat, r, count = torch.broadcast_tensors(*map(_real, (load, temperature, quality, examples)))
    if bool((alpha < 0).any()) or bool((heat < 0).any()):
        raise ValueError("load and temperature must not be negative")
    entropy = dataset_entropy(r, count)
    if normalization == "entropy":
        supervised = training == "supervised"
        heat = heat * ((1 + entropy) ** (order / 2) if supervised else (1 + dataset_entropy(r, count, order)).sqrt())
    noise = _hopfield_noise if order == 2 else _dense_noise
    m = n = torch.full_like(alpha, float(start == "retrieval"))
    q, response, done = torch.ones_like(alpha), torch.zeros_like(alpha), 0
    for done in range(1, max_iterations + 1):  # noqa: B007
        signal = n ** (order - 1)
        deviation = (entropy * signal**2 + alpha * noise(order, q, response, r, count, training, contact)).sqrt()
        new_m, new_q, new_response = _spin_averages(signal, deviation, heat)
        new_n = new_m + entropy * signal * new_response
        change = max(float((new_m - m).abs().max()), float((new_q - q).abs().max()))
        m, q, n = (m + new_m) / 2, (q + new_q) / 2, (n + new_n) / 2
        response = (response + new_response) / 2
        if change < tolerance:
            break
    return OrderParameters(m, n, q, done)


def critical_load(
    order: int,
    temperature: float = 0.0,
    quality: float = 1.0,
    examples: float = 1,
    *,
    training: Training = "supervised",
    contact: Contact = "all",
    normalization: Literal["signal", "entropy"] = "signal",
) -> float:
    """The largest load at which a retrieval state exists (its spinodal), to three digits; 0 where there is none.

    Stored patterns at T = 0: 0.138 for P = 2, about 0.012 (all indices) and 0.035 (distinct) for P = 4. Arguments and
    errors as in `replica_symmetric`.
    """

    def retrieved(load: float) -> bool:
        solution = replica_symmetric(
            order, load, temperature, quality, examples, training=training, contact=contact,
            normalization=normalization, tolerance=1e-7,
        )  # fmt: skip
        return bool(solution.phase == 2)

    if not retrieved(0.0):
        return 0.0
    top = 1e-6
    while retrieved(top):
        top *= 4
    return _edge(retrieved, 0.0, top, relative=1e-3)


def phase_diagram(
    order: int,
    loads: Tensor,
    temperatures: Tensor,
    quality: float = 1.0,
    examples: float = 1,
    *,
    training: Training = "supervised",
    contact: Contact = "all",
    normalization: Literal["signal", "entropy"] = "signal",
) -> Tensor:
    """Phase at every load and temperature, as an index into `PHASES`; retrieval wherever its state exists.

    Args:
        order: P, even.
        loads: ``[loads]``.
        temperatures: ``[temperatures]``.

    Returns:
        Int64 ``[temperatures, loads]``. Other arguments and errors as in `replica_symmetric`.
    """
    grid = replica_symmetric(
        order, loads.reshape(1, -1), temperatures.reshape(-1, 1), quality, examples, training=training,
        contact=contact, normalization=normalization, tolerance=1e-6, max_iterations=1000,
    )  # fmt: skip
    return grid.phase


def loss_from_overlap(overlap: Number) -> Tensor:
    """L = L+ L- = ``1 - m^2`` of a state of +-1 entries, where ``L+- = |pattern -+ state|^2 / 2N = 1 -+ m``."""
    return 1 - _real(overlap).square()


def overlap_from_loss(loss: Number) -> Tensor:
    """The inverse of `loss_from_overlap` up to the overlap's sign: ``sqrt(1 - L)``.

    Raises:
        ValueError: a loss outside [0, 1].
    """
    value = _real(loss)
    if bool((value < 0).any()) or bool((value > 1).any()):
        raise ValueError("loss must be between 0 and 1")
    return (1 - value).sqrt()


def _dense_noise(
    order: int, q: Tensor, response: Tensor, quality: Tensor, examples: Tensor, training: Training, contact: Contact
) -> Tensor:
    return crosstalk(order, q, quality, examples, training, contact)


def _hopfield_noise(
    order: int, q: Tensor, response: Tensor, quality: Tensor, examples: Tensor, training: Training, contact: Contact
) -> Tensor:
    """q R'(response), where R is the R-transform of the couplings: a sum over the modes of one pattern's rows."""
    entropy = dataset_entropy(quality, examples)
    main = ((1 + entropy) / (1 - (1 + entropy) * response)).square()
    if training == "supervised":
        return q * main
    return q * (main + (examples - 1) * (entropy / (1 - entropy * response)).square())


def _spin_averages(signal: Tensor, deviation: Tensor, heat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """E tanh, E tanh^2 and the response (1 - E tanh^2) / T over a Gaussian field of this mean and deviation, at T."""
    narrow = deviation.clamp_min(1e-12)
    ratio = signal / narrow
    density = math.sqrt(2 / math.pi) * torch.exp(-ratio.square() / 2) / narrow
    sharp_m = torch.erf(ratio / math.sqrt(2))
    sharp = heat < _SHARP * narrow
    tanh = torch.tanh((signal.unsqueeze(-1) + narrow.unsqueeze(-1) * _U) / heat.clamp_min(1e-12).unsqueeze(-1))
    soft_m, soft_q = tanh @ _WEIGHTS, tanh.square() @ _WEIGHTS
    m = torch.where(sharp, sharp_m, soft_m)
    q = torch.where(sharp, 1 - heat * density, soft_q)
    return m, q, torch.where(sharp, density, (1 - soft_q) / heat.clamp_min(1e-12))


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


def _edge(inside: Callable[[float], bool], low: float, high: float, relative: float = 1e-6) -> float:
    """Bisection: the border between ``low``, where ``inside`` holds, and ``high``, where it does not."""
    while abs(high - low) > relative * max(abs(low), abs(high)):
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle) else (low, middle)
    return (low + high) / 2


def _real(value: Number) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


def _check(order: int, training: str, contact: str) -> None:
    if order < 2 or order % 2:
        raise ValueError(f"order must be even and at least 2, not {order}")
    if training not in ("supervised", "unsupervised"):
        raise ValueError(f"training must be supervised or unsupervised, not {training!r}")
    if contact not in ("all", "distinct"):
        raise ValueError(f"contact must be all or distinct, not {contact!r}")
