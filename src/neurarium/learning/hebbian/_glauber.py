"""Glauber dynamics of +-1 spins: many replicas, blocks of spins at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Coupling(Protocol):
    """What the dynamics needs of an energy: fields of a block of spins, from sums that are kept up to date."""

    num_neurons: int

    def sums(self, spins: Tensor) -> list[Tensor]:
        """What is kept of a state ``[replicas, neurons]``."""

    def at(self, index: Tensor) -> Any:
        """A block of neurons, for `field` and `shift`."""

    def field(self, sums: Any, spins: Tensor, block: Any) -> Tensor:
        """The local fields of a block."""

    def shift(self, sums: list[Tensor], change: Tensor, block: Any) -> None:
        """Bring the sums up to date after a change of the block's spins."""


@torch.no_grad()
def glauber(
    coupling: Coupling,
    state: Tensor,
    temperature: float | Sequence[float],
    sweeps: int,
    block_size: int | None = None,
    generator: torch.Generator | None = None,
    frozen: Tensor | None = None,
) -> Tensor:
    """Heat-bath updates ``P(spin_i = +1) = 1 / (1 + exp(-2 h_i / T))`` with exact fields.

    A sweep visits every spin once in a random order that the replicas share; the spins of a block are drawn at once,
    given the state before the block. Blocks of one spin leave the Boltzmann distribution invariant; larger blocks do so
    up to the couplings inside a block, a share ``block_size / N`` of the field.

    Args:
        coupling: gives fields.
        state: ``[..., num_neurons]`` of -1 and +1.
        temperature: T, or one value for each sweep (annealing); at 0 a spin takes the sign of its field and stays where
            the field is 0.
        sweeps: how many.
        block_size: spins drawn at once; a twentieth of them by default.
        generator: source of the draws; torch's global one by default.
        frozen: mask of spins that stay as they are, broadcast to ``state``.

    Returns:
        The last state, shaped like ``state``.

    Raises:
        ValueError: a temperature is negative, there are fewer temperatures than sweeps, or the block is empty.
    """
    schedule = [float(temperature)] * sweeps if isinstance(temperature, (int, float)) else list(temperature)
    if len(schedule) != sweeps:
        raise ValueError(f"temperature must be one number or one for each of the {sweeps} sweeps, not {len(schedule)}")
    if min(schedule, default=0.0) < 0:
        raise ValueError(f"temperature must not be negative, got {min(schedule)}")
    size = max(1, coupling.num_neurons // 20) if block_size is None else block_size
    if size < 1:
        raise ValueError(f"block_size must be at least 1, not {size}")
    spins = state.reshape(-1, coupling.num_neurons).clone()
    held = None if frozen is None else frozen.expand(state.shape).reshape(spins.shape)
    place = generator.device if generator is not None else spins.device
    for level in schedule:
        order = torch.randperm(spins.shape[1], generator=generator, device=place).to(spins.device)
        draws = torch.rand(spins.shape, generator=generator, device=place, dtype=spins.dtype).to(spins.device)
        sums = coupling.sums(spins)
        for index in order.split(size):
            old = spins[:, index]
            block = coupling.at(index)
            field = coupling.field(sums, old, block)
            if level == 0:
                new = torch.where(field == 0, old, field.sign())
            else:
                new = torch.where(draws[:, index] < torch.sigmoid(2 / level * field), 1.0, -1.0).to(old.dtype)
            if held is not None:
                new = torch.where(held[:, index], old, new)
            coupling.shift(sums, new - old, block)
            spins[:, index] = new
    return spins.reshape(state.shape)
