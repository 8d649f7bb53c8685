"""Theory of Hopfield networks with blank pattern entries at low load: which patterns one state holds, and how well."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

ENUMERATED = 8  # up to so many patterns all 3^K columns of entries are enumerated
POINTS = 2**13  # of the Sobol sequence above
STARTS = ("hierarchical", "parallel", "pure")


@dataclass(frozen=True)
class Overlaps:
    """A solution of the self-consistency equations.

    Args:
        patterns: m, overlap of the mean state with each pattern, ``[num_patterns]``; at most 1 - dilution.
        examples: n, overlap with each mean example divided by the quality; equal to m for stored patterns.
        growth: largest absolute eigenvalue of the iteration's Jacobian at the solution: below 1 where it is stable.
        iterations: how many were needed.
        largest: what an overlap can be at most, 1 - dilution.
    """

    patterns: Tensor
    examples: Tensor
    growth: float
    iterations: int
    largest: float = 1.0

    @property
    def stable(self) -> bool:
        """Whether small deviations shrink."""
        return self.growth < 1

    @property
    def phase(self) -> str:
        """The label of `phase_of` for these overlaps."""
        return phase_of(self.patterns, largest=self.largest)


def phase_of(overlaps: Tensor, zero: float = 0.01, spread: float = 0.1, *, largest: float = 1.0) -> str:
    """Names a vector of overlaps.

    Args:
        overlaps: ``[num_patterns]``.
        zero: overlaps up to this share of the largest possible count as none.
        spread: (largest - smallest) / mean up to which overlaps count as equal.
        largest: what an overlap can be at most: 1 - dilution for patterns with blanks.

    Returns:
        ``"ergodic"`` (none), ``"pure"`` (one), ``"parallel"`` (all, equally) or ``"hierarchical"`` (several, ranked).
    """
    size = overlaps.abs()
    present = size[size > zero * largest]
    if not len(present):
        return "ergodic"
    if len(present) == 1 and len(size) > 1:
        return "pure"
    equal = len(present) == len(size) and float(size.max() - size.min()) <= spread * float(size.mean())
    return "parallel" if equal else "hierarchical"


def critical_dilution(num_patterns: int) -> float:
    """d_c, up to which the hierarchical state is a fixed point at T = 0: the root below 1 of ``1 - 2d + d^K``.

    For K = 3 it is (sqrt(5) - 1) / 2; it falls to 1/2 as K grows; for one or two patterns it is 1.

    Raises:
        ValueError: fewer than one pattern.
    """
    if num_patterns < 1:
        raise ValueError(f"num_patterns must be at least 1, not {num_patterns}")
    if num_patterns <= 2:
        return 1.0
    low, high = 0.5, 1 - 1e-3 if num_patterns == 3 else 0.6
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if 1 - 2 * middle + middle**num_patterns > 0 else (low, middle)
    return low


def multitasking_step(
    examples: Tensor, dilution: float, temperature: float, entropy: float = 0.0, patterns: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Overlaps after one parallel update of a state, by the Gaussian tail of its fields (signal to noise).

    The field of a neuron whose entries are xi is ``sum n xi`` plus Gaussian noise of variance ``rho sum n^2 xi^2``.

    Args:
        examples: n of the state, ``[num_patterns]`` (m where patterns are stored).
        dilution: d.
        temperature: T; 0 for sign updates.
        entropy: rho = (1 - r^2) / (M r^2); 0 for stored patterns.
        patterns: ``[num_patterns, num_neurons]``: the mean over these neurons takes the place of the expectation.

    Returns:
        m and n after the update.
    """
    entries, weights = _columns(len(examples), dilution, examples) if patterns is None else _counted(patterns, examples)
    return _step(examples, entries, weights, temperature, entropy)


def _step(
    examples: Tensor, entries: Tensor, weights: Tensor, temperature: float, entropy: float
) -> tuple[Tensor, Tensor]:
    signal = entries @ examples
    deviation = (entries.square() @ examples.square() * entropy).clamp_min(1e-30).sqrt()
    mean, slope = _gaussian_response(signal, deviation, temperature, entropy > 0)
    overlaps = (weights * mean) @ entries
    noise = entropy * examples * ((weights * slope / deviation) @ entries.abs()) if entropy else 0.0
    return overlaps, overlaps + noise


def multitasking_overlaps(
    num_patterns: int,
    dilution: float,
    temperature: float,
    entropy: float = 0.0,
    start: str = "hierarchical",
    *,
    patterns: Tensor | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 5000,
) -> Overlaps:
    """Solves ``m = E[xi tanh(beta sum n xi (1 + sqrt(rho) z))]``, ``n = E[xi (1 + sqrt(rho) z) tanh(same)]``.

    The expectation runs over all 3^K columns of entries for up to 8 patterns, over a Sobol sequence above. Supervised
    and unsupervised learning have the same equations at low load. The iteration is damped by a half.

    Args:
        num_patterns: K.
        dilution: d in [0, 1).
        temperature: T >= 0.
        entropy: rho of the data set; 0 for stored patterns.
        start: ``"hierarchical"`` ((1 - d) d^mu), ``"parallel"`` (all equal) or ``"pure"`` (one pattern).
        patterns: ``[num_patterns, num_neurons]`` of a finite network: the mean over its own neurons takes the place of
            the expectation, so that the chance correlations of these patterns, of order 1 / sqrt(num_neurons), count.
        tolerance: largest change of an overlap at the solution.
        max_iterations: after which the last iterate is returned.

    Raises:
        ValueError: an argument is out of its range.
    """
    if not 0 <= dilution < 1 or temperature < 0 or entropy < 0 or num_patterns < 1:
        raise ValueError("need num_patterns >= 1, 0 <= dilution < 1, temperature >= 0 and entropy >= 0")
    if start not in STARTS:
        raise ValueError(f"start must be one of {', '.join(STARTS)}, not {start!r}")
    if patterns is not None and (patterns.ndim != 2 or len(patterns) != num_patterns):
        raise ValueError(
            f"patterns must have the shape [num_patterns = {num_patterns}, num_neurons], not {list(patterns.shape)}"
        )
    n = torch.full((num_patterns,), (1 - dilution) / math.sqrt(num_patterns), dtype=torch.float64)
    if start == "hierarchical":
        n = (1 - dilution) * dilution ** torch.arange(num_patterns, dtype=torch.float64)
    elif start == "pure":
        n = torch.zeros(num_patterns, dtype=torch.float64)
        n[0] = 1 - dilution
    entries, weights = _columns(num_patterns, dilution, n) if patterns is None else _counted(patterns, n)
    m, done = n, 0
    for done in range(1, max_iterations + 1):  # noqa: B007
        m, new = _step(n, entries, weights, temperature, entropy)
        change = float((new - n).abs().max())
        n = (n + new) / 2
        if change < tolerance:
            break
    jacobian = torch.autograd.functional.jacobian(lambda at: _step(at, entries, weights, temperature, entropy)[1], n)
    return Overlaps(m, n, float(torch.linalg.eigvals(jacobian).abs().max()), done, 1 - dilution)


def retrieval_losses(pattern: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Squared errors ``|pattern -+ state|^2 / 2N`` of a state as a copy of a pattern, and of its negative.

    With the share d of blanks in the pattern and the overlap m they are ``1 - d/2 - m`` and ``1 - d/2 + m``, so their
    product is ``(1 - d/2)^2 - m^2``.

    Args:
        pattern: ``[..., num_neurons]`` of -1, 0 and +1.
        state: ``[..., num_neurons]`` of -1 and +1; broadcasts with ``pattern``.
    """
    return (pattern - state).square().mean(-1) / 2, (pattern + state).square().mean(-1) / 2


def energy_from_losses(patterns: Tensor, state: Tensor) -> Tensor:
    """Energy of the network that stores ``patterns``, from the losses alone: the cost-loss identity.

    ``-N/2 sum_mu [(1 - d_mu/2)^2 - L+ L-]`` equals ``-N/2 sum_mu m_mu^2``: lowering the energy lowers the products of
    the losses on all patterns together.

    Args:
        patterns: ``[num_patterns, num_neurons]``.
        state: ``[..., num_neurons]``.
    """
    below, above = retrieval_losses(patterns, state.unsqueeze(-2))
    top = 1 - (patterns == 0).to(patterns.dtype).mean(-1) / 2
    return -patterns.shape[-1] / 2 * (top.square() - below * above).sum(-1)


def _columns(num_patterns: int, dilution: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Values of (xi^1 ... xi^K) and their probabilities."""
    if num_patterns <= ENUMERATED:
        entries = torch.tensor(list(itertools.product((-1, 0, 1), repeat=num_patterns))).to(like)
        blanks = (entries == 0).sum(1).to(like)
        return entries, dilution**blanks * ((1 - dilution) / 2) ** (num_patterns - blanks)
    uniform = torch.quasirandom.SobolEngine(num_patterns, scramble=True, seed=0).draw(POINTS).to(like)
    half = (1 - dilution) / 2
    entries = (uniform > 1 - half).to(like) - (uniform < half).to(like)
    return entries, torch.full_like(entries[:, 0], 1 / POINTS)


def _counted(patterns: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """The columns that occur in these patterns and the share of the neurons that have each."""
    entries, counts = patterns.T.unique(dim=0, return_counts=True)
    return entries.to(like), counts.to(like) / patterns.shape[1]


def _gaussian_response(signal: Tensor, deviation: Tensor, temperature: float, noisy: bool) -> tuple[Tensor, Tensor]:
    """E tanh((signal + deviation u) / T) and E u tanh(same) over standard Gaussian u."""
    if not noisy:
        sharp = signal.sign() * (signal.abs() > 1e-12) if temperature == 0 else torch.tanh(signal / temperature)
        return sharp, torch.zeros_like(signal)
    if temperature == 0:
        ratio = signal / deviation
        return torch.erf(ratio / math.sqrt(2)), 2 * torch.exp(-ratio.square() / 2) / math.sqrt(2 * math.pi)
    u = torch.linspace(-7, 7, 281, dtype=signal.dtype)  # trapezoids: exponentially accurate for smooth integrands
    weights = torch.softmax(-u.square() / 2, 0)
    response = torch.tanh((signal.unsqueeze(1) + deviation.unsqueeze(1) * u) / temperature)
    return response @ weights, response @ (weights * u)
