"""What the two studies of dense Hebbian networks share: data, sampling, thresholds read off curves, an identity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from neurarium.data import diluted_patterns, noisy_examples
from neurarium.learning import HebbianMemory
from neurarium.theory import retrieval_losses


def taught(
    neurons: int,
    patterns: int,
    quality: float,
    examples: int,
    generator: torch.Generator,
    *,
    order: int,
    contact: str = "all",
    labels: Tensor | None = None,
    teacher: bool = True,
) -> tuple[Tensor, Tensor, HebbianMemory]:
    """Hidden patterns, their examples and the memory that learned from these; own ``labels`` replace the true ones."""
    hidden = diluted_patterns(patterns, neurons, generator=generator)
    shown = noisy_examples(hidden, quality, examples, generator)
    true = torch.arange(patterns).unsqueeze(1).expand(patterns, examples)
    memory = HebbianMemory(
        neurons, order, contact=contact, quality=quality, normalization="entropy", num_patterns=patterns
    )
    memory.learn(shown, (true if labels is None else labels) if teacher else None)
    return hidden, shown, memory


def settled(
    memory: HebbianMemory, starts: Tensor, temperature: float, sweeps: int, averaged: int, generator: torch.Generator
) -> Tensor:
    """Mean state of each replica over the last sweeps, ``[replicas, num_neurons]``."""
    state = memory.relax(starts, temperature, sweeps, generator)
    total = torch.zeros_like(state)
    for _ in range(averaged):
        state = memory.relax(state, temperature, 1, generator)
        total += state / averaged
    return total


def overlap(states: Tensor, patterns: Tensor) -> float:
    """Mean over replicas of the overlap with the pattern of the same index."""
    return float((states * patterns).mean())


def crossing(counts: Sequence[float], overlaps: Sequence[float], level: float) -> float:
    """The count at which the overlap first reaches ``level``, interpolated in its logarithm.

    The first count if it is reached there, twice the last if nowhere.
    """
    if overlaps[0] >= level:
        return float(counts[0])
    for k in range(1, len(counts)):
        if overlaps[k] >= level:
            share = (level - overlaps[k - 1]) / (overlaps[k] - overlaps[k - 1])
            return counts[k - 1] * (counts[k] / counts[k - 1]) ** share
    return 2.0 * counts[-1]


def loss_identity(seed: int) -> float:
    """Largest relative difference between energies and the losses that they are functions of, stored and learned."""
    g = torch.Generator().manual_seed(seed)
    hidden = diluted_patterns(6, 50, generator=g).double()
    shown = noisy_examples(hidden, 0.6, 7, g)
    state = diluted_patterns(1, 50, generator=g)[0].double()

    def from_losses(rows: Tensor, order: int) -> Tensor:
        below, above = retrieval_losses(rows, state)
        return -(50 / order) * (1 - below * above).pow(order / 2)

    worst = 0.0
    for order in (2, 4):
        stored = HebbianMemory(50, order, dtype=torch.float64).store(hidden)
        learned = HebbianMemory(50, order, quality=0.6, num_patterns=6, dtype=torch.float64).learn(shown)
        scale = 0.6**order
        for memory, energy in (
            (stored, from_losses(hidden, order).sum()),
            (learned, from_losses(shown.flatten(0, 1), order).sum() / 7 / scale),
        ):
            worst = max(worst, float((memory.energy(state) - energy).abs() / energy.abs()))
    return worst
