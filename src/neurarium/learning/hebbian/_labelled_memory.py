"""A memory of named vectors with missing entries: completes a probe and says which names are active in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neurarium.learning.hebbian._hebbian_memory import HebbianMemory


@dataclass(frozen=True)
class Recall:
    """What a memory makes of a probe.

    Args:
        state: the completed vector, ``[num_neurons]`` of -1 and +1.
        agreement: per name, (agreeing - disagreeing) / known entries, from -1 to 1.
        significance: per name, the agreement in deviations of a random vector's: ``agreement * sqrt(known entries)``.
        active: names whose significance reached the threshold, the strongest first.
    """

    state: Tensor
    agreement: dict[str, float]
    significance: dict[str, float]
    active: tuple[str, ...]


class LabelledMemory(nn.Module):
    """Several named vectors with missing entries in one Hebbian memory; one state can satisfy several at once.

    Entries are -1, +1, or 0 for "unknown". Vectors that are known in different places leave each other room, so a
    completed probe usually fits several of them: a multi-label memory (arXiv 2308.04106).

    Args:
        num_neurons: entries of a vector.
        order: of the memory's energy; see `HebbianMemory`.
        significance: from how many deviations of chance agreement a name counts as active.

    Raises:
        ValueError: ``significance`` is not positive, or an argument of the memory's is wrong.
    """

    def __init__(self, num_neurons: int, order: int = 2, significance: float = 3.0) -> None:
        super().__init__()
        if significance <= 0:
            raise ValueError(f"significance must be positive, not {significance}")
        self.memory = HebbianMemory(num_neurons, order)
        self.significance = significance
        self.names: list[str] = []

    def store(self, vectors: Mapping[str, Tensor]) -> LabelledMemory:
        """Add named vectors ``[num_neurons]`` of -1, 0 (unknown) and +1.

        Raises:
            ValueError: a name is taken, or a vector has other entries, another length, or nothing known.
        """
        taken = [name for name in vectors if name in self.names]
        if taken:
            raise ValueError(f"a vector named {taken[0]!r} is stored already")
        self.memory.store(torch.stack([torch.as_tensor(v, dtype=torch.float32) for v in vectors.values()]))
        self.names += vectors
        return self

    def recall(
        self,
        probe: Tensor,
        *,
        trust: bool = True,
        temperature: float = 0.0,
        sweeps: int = 20,
        generator: torch.Generator | None = None,
    ) -> Recall:
        """Fill in what a probe leaves open.

        Args:
            probe: ``[num_neurons]`` of -1, 0 (open) and +1.
            trust: keep the given entries as they are; False lets the memory correct them.
            temperature: of the dynamics; 0 descends to the nearest minimum.
            sweeps: updates of every neuron.
            generator: source of the draws; an open entry without any evidence starts at random.

        Raises:
            ValueError: the probe has other entries, another length, or the memory is empty.
        """
        probe = torch.as_tensor(probe, dtype=torch.float32).to(self.memory.rows)
        if probe.shape != (self.memory.num_neurons,) or bool(((probe != 0) & (probe.abs() != 1)).any()):
            raise ValueError(f"probe must be {self.memory.num_neurons} entries of -1, 0 or +1")
        rows = self.memory.coupling().rows
        votes = (rows @ probe / self.memory.num_neurons) ** (self.memory.order - 1) @ rows
        coin = torch.randint(2, probe.shape, generator=generator).to(votes) * 2 - 1
        start = torch.where(probe != 0, probe, torch.where(votes != 0, votes.sign(), coin))
        frozen = probe != 0 if trust else None
        state = self.memory.relax(start, temperature, sweeps, generator, frozen=frozen)
        known = rows.abs().sum(1)
        agreement = (rows @ state / known).tolist()
        deviations = [a * math.sqrt(k) for a, k in zip(agreement, known.tolist(), strict=True)]
        found = sorted((-d, name) for d, name in zip(deviations, self.names, strict=True) if d >= self.significance)
        return Recall(
            state,
            dict(zip(self.names, agreement, strict=True)),
            dict(zip(self.names, deviations, strict=True)),
            tuple(name for _, name in found),
        )

    def get_extra_state(self) -> list[str]:
        """Names, for ``state_dict``."""
        return list(self.names)

    def set_extra_state(self, state: list[str]) -> None:
        """Names, from ``state_dict``."""
        self.names = list(state)
