"""What a memory that was shown unlabelled examples has made of them: the states it relaxes to, grouped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neurarium.learning.hebbian._hebbian_memory import HebbianMemory


@dataclass(frozen=True)
class Archetypes:
    """Attractors of a memory, the most visited first.

    Args:
        states: one state of -1 and +1 for each, ``[num_archetypes, num_neurons]``.
        counts: how many starts ended there (or at its negative), ``[num_archetypes]``.
    """

    states: Tensor
    counts: Tensor

    def __len__(self) -> int:
        return len(self.counts)

    def found(self, patterns: Tensor, overlap: float = 0.9) -> Tensor:
        """Which ``patterns`` ``[num_patterns, num_neurons]`` some archetype agrees with up to its sign; bool."""
        agreement = (patterns.to(self.states) @ self.states.T).abs() / self.states.shape[1]
        return (agreement > overlap).any(1)


def discover_archetypes(
    memory: HebbianMemory,
    starts: Tensor,
    *,
    temperature: float | Sequence[float] = 0.0,
    sweeps: int = 40,
    overlap: float = 0.9,
    generator: torch.Generator | None = None,
) -> Archetypes:
    """Relaxes many starts and groups the final states (arXiv 2211.14067: archetypes emerge without a teacher).

    The state with most others within ``overlap`` founds the first group, which is named by the majority of its members;
    the rest is grouped likewise. A state and its negative are one, since the energy is even.

    Args:
        memory: of any order.
        starts: ``[num_starts, num_neurons]`` of -1 and +1: the examples themselves find patterns they carry a trace of,
            random states also find mixtures.
        temperature: of the dynamics, or one for each sweep.
        sweeps: how many.
        overlap: smallest overlap with the founder of a group.
        generator: source of the draws.

    Raises:
        ValueError: no start, or an overlap outside (0, 1].
    """
    if starts.dim() != 2 or not len(starts):
        raise ValueError(f"starts must be [num_starts, num_neurons] with at least one start, not {tuple(starts.shape)}")
    if not 0 < overlap <= 1:
        raise ValueError(f"overlap must lie in (0, 1], not {overlap}")
    states = memory.relax(starts, temperature, sweeps, generator)
    agreement = states @ states.T / memory.num_neurons
    near = agreement.abs() >= overlap - 1e-6
    left = torch.ones(len(states), dtype=torch.bool, device=states.device)
    names, counts = [], []
    while bool(left.any()):
        founder = int(torch.where(left, (near & left).sum(1), -1).argmax())
        members = near[founder] & left
        vote = (states[members] * agreement[founder, members].sign().unsqueeze(1)).sum(0).sign()
        names.append(torch.where(vote == 0, states[founder], vote))
        counts.append(int(members.sum()))
        left &= ~members
    return Archetypes(torch.stack(names), torch.tensor(counts, device=states.device))
