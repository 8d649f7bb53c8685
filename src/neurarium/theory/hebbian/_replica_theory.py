"""Replica-symmetric theory of Hebbian networks of any order: in which state a network at load alpha settles.

The network, the normalisation and the words are those of `neurarium.learning.HebbianMemory`.
Agliari et al. (2023), Physica A 626 and 627; for pairs Amit, Gutfreund and Sompolinsky (1985).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from neurarium.theory.hebbian._dense_hebbian import (
    Contact,
    Number,
    Training,
    check,
    crosstalk,
    dataset_entropy,
    edge,
    real,
)

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
    check(order, training, contact)
    if normalization not in ("signal", "entropy"):
        raise ValueError(f"normalization must be signal or entropy, not {normalization!r}")
    if start not in ("retrieval", "zero"):
        raise ValueError(f"start must be retrieval or zero, not {start!r}")
    given = (load, temperature, quality, examples)
    device = next((value.device for value in given if isinstance(value, Tensor)), torch.device("cpu"))
    alpha, heat, r, count = torch.broadcast_tensors(*(real(value).cpu() for value in given))  # tiny, and float64
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
    return OrderParameters(m.to(device), n.to(device), q.to(device), done)


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
    return edge(retrieved, 0.0, top, relative=1e-3)


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
    tanh = torch.tanh((signal.unsqueeze(-1) + narrow.unsqueeze(-1) * _U.to(heat)) / heat.clamp_min(1e-12).unsqueeze(-1))
    soft_m, soft_q = tanh @ _WEIGHTS.to(heat), tanh.square() @ _WEIGHTS.to(heat)
    m = torch.where(sharp, sharp_m, soft_m)
    q = torch.where(sharp, 1 - heat * density, soft_q)
    return m, q, torch.where(sharp, density, (1 - soft_q) / heat.clamp_min(1e-12))
