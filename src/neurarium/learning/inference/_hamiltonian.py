"""Hamiltonian dynamics of a density, and Monte Carlo along them (Neal, 2011)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

LogDensity = Callable[[Tensor], Tensor]
"""A differentiable function of one vector, up to a constant: a `FlatPosterior`, or your own."""


@dataclass(frozen=True)
class Samples:
    """A chain.

    Args:
        vectors: where it was, after the warm-up.
        step_size: of the leapfrog after the warm-up.
        acceptance: mean probability of acceptance after it.
        gradients: how many were taken in all.
        divergent: steps after the warm-up on which the energy was lost: a sign that samples are missing somewhere.
    """

    vectors: Float[Tensor, "samples size"]
    step_size: float
    acceptance: float
    gradients: int
    divergent: int


@dataclass
class State:
    """A point in phase space."""

    position: Tensor
    momentum: Tensor
    log_density: float
    gradient: Tensor

    @property
    def energy(self) -> float:
        """Minus the log of the joint density of position and momentum."""
        return 0.5 * float(self.momentum @ self.momentum) - self.log_density


class Dynamics:
    """Leapfrog steps in coordinates in which the density is about as wide in every direction.

    Args:
        density: the log-density.
        scale: of each coordinate; the inverse mass is its square.
    """

    def __init__(self, density: LogDensity, scale: Tensor) -> None:
        self.density = density
        self.scale = scale
        self.gradients = 0

    def at(self, position: Tensor, momentum: Tensor) -> State:
        """A state with its density and gradient; outside the support the density is minus infinity."""
        self.gradients += 1
        x = (position * self.scale).detach().requires_grad_()
        with torch.enable_grad():
            value = self.density(x)
            (gradient,) = torch.autograd.grad(value, x)
        log_density = float(value.detach())
        return State(
            position, momentum, log_density if math.isfinite(log_density) else -math.inf, gradient * self.scale
        )

    def leapfrog(self, state: State, step: float) -> State:
        """One step; reversible, and with an error in the energy of the order of its square."""
        half = state.momentum + 0.5 * step * state.gradient
        new = self.at(state.position + step * half, half)
        new.momentum = half + 0.5 * step * new.gradient
        return new

    def fresh(self, state: State, generator: torch.Generator | None) -> State:
        """The same place with a momentum drawn anew."""
        noise = torch.randn(state.position.shape, generator=generator, dtype=state.position.dtype)
        return State(state.position, noise.to(state.position.device), state.log_density, state.gradient)


class DualAveraging:
    """A step size whose acceptance has a wanted mean (Hoffman and Gelman, 2014, section 3.2).

    Args:
        step: the first guess.
        target: mean acceptance.
    """

    def __init__(self, step: float, target: float) -> None:
        self.target = target
        self.centre = math.log(10 * step)
        self.error = self.averaged = 0.0
        self.count = 0
        self.step = step

    def update(self, acceptance: float) -> None:
        """Learn from one acceptance probability."""
        self.count += 1
        rate = 1 / (self.count + 10)
        self.error += rate * (self.target - acceptance - self.error)
        log_step = self.centre - math.sqrt(self.count) / 0.05 * self.error
        weight = self.count**-0.75
        self.averaged += weight * (log_step - self.averaged)
        self.step = math.exp(log_step)

    @property
    def final(self) -> float:
        """The averaged step size."""
        return math.exp(self.averaged) if self.count else self.step


def first_step(dynamics: Dynamics, state: State) -> float:
    """A step whose acceptance crosses one half, found by doubling or halving."""
    step, direction = 1.0, 0
    while 1e-8 < step < 1e8:
        gain = state.energy - dynamics.leapfrog(state, step).energy
        now = 1 if math.isfinite(gain) and gain > -math.log(2) else -1
        if direction and now != direction:
            return step
        direction = now
        step *= 2.0**direction
    return step


class HamiltonianSampler(ABC):
    """What samplers along a density's dynamics share: the chain and its warm-up. They differ in the move.

    The first half of the warm-up finds a step; the deviations of its later part become the scales of the coordinates,
    and the rest finds the step for these.

    Args:
        density: log-density of a vector, up to a constant.
        target: mean acceptance that the warm-up aims at.

    Raises:
        ValueError: the target is not between 0 and 1.
    """

    def __init__(self, density: LogDensity, target: float = 0.8) -> None:
        if not 0 < target < 1:
            raise ValueError(f"target must be between 0 and 1, not {target}")
        self.density = density
        self.target = target

    @abstractmethod
    def move(
        self, dynamics: Dynamics, state: State, step: float, generator: torch.Generator | None
    ) -> tuple[State, float, bool]:
        """From a state with a fresh momentum to the chain's next one.

        Returns:
            The state, the mean probability of acceptance, and whether the energy was lost on the way.
        """

    def sample(
        self, start: Float[Tensor, " size"], samples: int = 500, warm_up: int = 500, *,
        generator: torch.Generator | None = None,
    ) -> Samples:  # fmt: skip
        """A chain.

        Args:
            start: where it begins.
            samples: vectors to keep.
            warm_up: moves before them, in which step size and scales are found.
            generator: of the draws, on the CPU.

        Raises:
            ValueError: a number out of range, or a start where the density is 0.
        """
        if samples < 1 or warm_up < 0:
            raise ValueError(f"samples must be at least 1 and warm_up not negative, not {samples} and {warm_up}")
        if start.dim() != 1:
            raise ValueError(f"start must be one vector, not of shape {tuple(start.shape)}")
        dynamics = Dynamics(self.density, torch.ones_like(start))
        state = dynamics.at(start.detach().clone(), torch.zeros_like(start))
        if not math.isfinite(state.log_density):
            raise ValueError("the density is not positive and finite at start")
        averaging = DualAveraging(first_step(dynamics, dynamics.fresh(state, generator)), self.target)
        kept, seen, accepted, lost = [], [], 0.0, 0
        for i in range(warm_up + samples):
            step = averaging.step if i < warm_up else averaging.final
            state, acceptance, divergent = self.move(dynamics, dynamics.fresh(state, generator), step, generator)
            if i < warm_up:
                averaging.update(acceptance)
                if warm_up // 6 <= i < warm_up // 2:
                    seen.append(state.position * dynamics.scale)
                if i == warm_up // 2 - 1 and len(seen) > 10:
                    spread = torch.stack(seen).std(0)
                    here = state.position * dynamics.scale
                    dynamics.scale = torch.where(spread > 0, spread, 1.0)
                    state = dynamics.at(here / dynamics.scale, torch.zeros_like(here))
                    averaging = DualAveraging(first_step(dynamics, dynamics.fresh(state, generator)), self.target)
            else:
                kept.append(state.position * dynamics.scale)
                accepted += acceptance
                lost += divergent
        return Samples(torch.stack(kept), averaging.final, accepted / samples, dynamics.gradients, lost)


class HamiltonianMonteCarlo(HamiltonianSampler):
    """Draws from a density by following its dynamics for a fixed number of leapfrog steps (Neal, 2011).

    Args:
        density: log-density of a vector, up to a constant.
        steps: leapfrog steps for each sample.
        target: mean acceptance that the warm-up aims at.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(self, density: LogDensity, steps: int = 10, target: float = 0.8) -> None:
        super().__init__(density, target)
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        self.steps = steps

    def move(
        self, dynamics: Dynamics, state: State, step: float, generator: torch.Generator | None
    ) -> tuple[State, float, bool]:
        """Leapfrog steps, and the end of them taken or refused."""
        new = state
        for _ in range(self.steps):
            new = dynamics.leapfrog(new, step)
            if not math.isfinite(new.energy):
                break
        gain = state.energy - new.energy
        acceptance = math.exp(min(0.0, gain)) if math.isfinite(gain) else 0.0
        taken = float(torch.rand((), generator=generator)) < acceptance
        return (new if taken else state), acceptance, not gain > -1000
