"""The no-U-turn sampler: Hamiltonian Monte Carlo that finds its own length (Hoffman and Gelman, 2014)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from neurarium.learning.inference._hamiltonian import Dynamics, HamiltonianSampler, LogDensity, State

LOST = 1000.0
"""An error in the energy beyond which a trajectory is given up."""


@dataclass
class _Tree:
    """A stretch of a trajectory: its ends, one of its states, the log of its weight, and how it went."""

    first: State
    last: State
    chosen: State
    log_weight: float
    acceptance: float
    states: int
    goes_on: bool
    divergent: bool = False


class NoUTurnSampler(HamiltonianSampler):
    """Draws from a density; each trajectory is doubled, forwards or backwards, until it begins to turn back.

    A state of it is chosen with its weight, later stretches with preference (Betancourt, 2017), so that no length has
    to be set.

    Args:
        density: log-density of a vector, up to a constant.
        target: mean acceptance that the warm-up aims at.
        max_depth: doublings at most.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(self, density: LogDensity, target: float = 0.8, max_depth: int = 10) -> None:
        super().__init__(density, target)
        if max_depth < 1:
            raise ValueError(f"max_depth must be at least 1, not {max_depth}")
        self.max_depth = max_depth

    def move(
        self, dynamics: Dynamics, state: State, step: float, generator: torch.Generator | None
    ) -> tuple[State, float, bool]:
        """One trajectory, and one of its states."""
        tree = _Tree(state, state, state, 0.0, 0.0, 0, True)
        for depth in range(self.max_depth):
            forwards = float(torch.rand((), generator=generator)) < 0.5
            edge = tree.last if forwards else tree.first
            grown = _grow(dynamics, edge, step if forwards else -step, depth, state.energy, generator)
            tree.acceptance += grown.acceptance
            tree.states += grown.states
            tree.divergent |= grown.divergent
            if not grown.goes_on:
                break
            if math.log(max(float(torch.rand((), generator=generator)), 1e-38)) < grown.log_weight - tree.log_weight:
                tree.chosen = grown.chosen
            tree.log_weight = _log_sum(tree.log_weight, grown.log_weight)
            tree.first, tree.last = (tree.first, grown.last) if forwards else (grown.first, tree.last)
            if _turns(tree.first, tree.last):
                break
        return tree.chosen, tree.acceptance / max(tree.states, 1), tree.divergent


def _grow(
    dynamics: Dynamics, edge: State, step: float, depth: int, energy: float, generator: torch.Generator | None
) -> _Tree:
    """A stretch of 2^depth states beyond an edge; ``first`` to ``last`` run forwards in time."""
    if depth == 0:
        new = dynamics.leapfrog(edge, step)
        gain = energy - new.energy
        gain = gain if math.isfinite(gain) else -math.inf
        return _Tree(new, new, new, gain, math.exp(min(0.0, gain)), 1, gain > -LOST, gain <= -LOST)
    near = _grow(dynamics, edge, step, depth - 1, energy, generator)
    if not near.goes_on:
        return near
    far = _grow(dynamics, near.last if step > 0 else near.first, step, depth - 1, energy, generator)
    log_weight = _log_sum(near.log_weight, far.log_weight)
    taken = float(torch.rand((), generator=generator)) < math.exp(far.log_weight - log_weight)
    first, last = (near.first, far.last) if step > 0 else (far.first, near.last)
    return _Tree(
        first, last, far.chosen if taken else near.chosen, log_weight, near.acceptance + far.acceptance,
        near.states + far.states, far.goes_on and not _turns(first, last), near.divergent or far.divergent,
    )  # fmt: skip


def _turns(first: State, last: State) -> bool:
    """Whether the ends begin to come nearer to each other."""
    between = last.position - first.position
    return float(between @ first.momentum) < 0 or float(between @ last.momentum) < 0


def _log_sum(a: float, b: float) -> float:
    high = max(a, b)
    return high + math.log(math.exp(a - high) + math.exp(b - high)) if high > -math.inf else high
