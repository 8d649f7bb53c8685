"""A small dense memory with its coupling tensor written out, every entry of it corrupted by noise."""

from __future__ import annotations

import functools
import math
from typing import cast

import torch
from torch import Tensor

from neurarium.learning.hebbian._glauber import glauber
from neurarium.learning.hebbian._hebbian_memory import HebbianMemory
from neurarium.learning.hebbian._many_body import ManyBody

MAX_ENTRIES = 5_000_000


class NoisySynapses:
    """Couplings ``J_i1...iP = sum_r row_i1 ... row_iP + noise * z`` of different neurons, z standard Gaussian.

    One entry of one stored pattern is 1, so ``noise`` says how deep the signal lies under the corruption of its own
    synapse. A field sums N^(P-1) entries: recognition survives noise up to about N^((P-1)/2), far beyond the signal
    for P > 2 (the paper's "ultra-detection"; arXiv 2212.00606).

    Args:
        memory: filled, with ``num_neurons ** order`` at most 5 million.
        noise: standard deviation of the corruption, at least 0.
        generator: source of the draws.

    Raises:
        ValueError: noise is negative, or the tensor would be too large.
    """

    def __init__(self, memory: HebbianMemory, noise: float, generator: torch.Generator | None = None) -> None:
        n, order = memory.num_neurons, memory.order
        if noise < 0:
            raise ValueError(f"noise must not be negative, got {noise}")
        if n**order > MAX_ENTRIES:
            raise ValueError(
                f"{n} neurons of order {order} have {n**order:,} synapses, more than {MAX_ENTRIES:,}: "
                f"use at most {math.floor(MAX_ENTRIES ** (1 / order))} neurons"
            )
        rows = memory.effective_rows()
        memory.coupling()  # refuses an empty memory
        tensor = sum(functools.reduce(lambda outer, r: outer.unsqueeze(-1) * r, [row] * order) for row in rows)
        place = generator.device if generator is not None else rows.device
        corruption = torch.randn((n,) * order, generator=generator, device=place, dtype=rows.dtype).to(rows.device)
        noisy = tensor + noise * corruption
        self.synapses = (noisy * _distinct(n, order, rows.device)).reshape(n, -1)
        self.num_neurons, self.order = n, order

    def field(self, state: Tensor) -> Tensor:
        """``[..., num_neurons]``, in units of one pattern's own field at full overlap."""
        return self._field(state.to(self.synapses), self.synapses)

    def relax(self, state: Tensor, sweeps: int = 20, generator: torch.Generator | None = None) -> Tensor:
        """Sweeps of `glauber` at temperature 0, ``[..., num_neurons]``.

        The corrupted couplings have no energy, so the state may keep moving.
        """
        couplings = cast(ManyBody, _Synapses(self))  # it has all of a ManyBody that the dynamics asks for
        return glauber(couplings, state.to(self.synapses), 0.0, sweeps, generator=generator)

    def _field(self, state: Tensor, synapses: Tensor) -> Tensor:
        others = state
        for _ in range(self.order - 2):
            others = (others.unsqueeze(-1) * state.unsqueeze(-2)).flatten(-2)
        return others @ synapses.T / self.num_neurons ** (self.order - 1)


class _Synapses:
    """The form that `glauber` takes; all it keeps of a state is the state."""

    def __init__(self, memory: NoisySynapses) -> None:
        self.memory, self.num_neurons = memory, memory.num_neurons

    def sums(self, spins: Tensor) -> list[Tensor]:
        return [spins.clone()]

    def at(self, index: Tensor) -> Tensor:
        return index

    def field(self, sums: list[Tensor], spins: Tensor, block: Tensor) -> Tensor:
        return self.memory._field(sums[0], self.memory.synapses[block])

    def shift(self, sums: list[Tensor], change: Tensor, block: Tensor) -> None:
        sums[0][:, block] += change


def _distinct(neurons: int, order: int, device: torch.device) -> Tensor:
    """Where all indices of a tensor of this order differ."""
    index = torch.arange(neurons, device=device)
    apart = torch.ones((neurons,) * order, dtype=torch.bool, device=device)
    shaped = [index.reshape([-1 if axis == k else 1 for axis in range(order)]) for k in range(order)]
    for a in range(order):
        for b in range(a):
            apart &= shaped[a] != shaped[b]
    return apart
