"""What simulators make of functions: all functions at once, on the grid on which they are given."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def antiderivative(u: Float[Tensor, "functions points"]) -> Float[Tensor, "functions points"]:
    """``s' = u``, ``s(0) = 0`` on [0, 1], by the trapezoid rule: exact for functions that are straight between points.

    Args:
        u: on an even grid.
    """
    step = 1 / (u.shape[1] - 1)
    areas = (u[:, 1:] + u[:, :-1]) * (step / 2)
    return torch.cat([torch.zeros_like(u[:, :1]), areas.cumsum(1)], 1)


def solve_ode(
    rate: Callable[[Tensor, Tensor], Tensor],
    u: Float[Tensor, "functions points"],
    start: Float[Tensor, "functions states"],
    horizon: float = 1.0,
) -> Float[Tensor, "functions points states"]:
    """``s'(t) = rate(s(t), u(t))`` for all functions at once, by Runge and Kutta's method of fourth order.

    Args:
        rate: ``rate(s [functions, states], u [functions, 1]) -> [functions, states]``.
        u: the driving functions on an even grid of [0, horizon]; between its points the cubic through four of them.
        start: the states at 0.
        horizon: the last time.
    """
    step = horizon / (u.shape[1] - 1)
    half = _between(u)
    s, states = start, [start]
    for i in range(u.shape[1] - 1):
        left, middle, right = u[:, i, None], half[:, i, None], u[:, i + 1, None]
        k1 = rate(s, left)
        k2 = rate(s + step / 2 * k1, middle)
        k3 = rate(s + step / 2 * k2, middle)
        k4 = rate(s + step * k3, right)
        s = s + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        states.append(s)
    return torch.stack(states, 1)


def nonlinear_ode(u: Float[Tensor, "functions points"]) -> Float[Tensor, "functions points"]:
    """``s' = -s² + u``, ``s(0) = 0`` on [0, 1]."""
    return solve_ode(lambda s, force: force - s.square(), u, torch.zeros_like(u[:, :1]))[..., 0]


def pendulum(
    u: Float[Tensor, "functions points"], k: float = 1.0, horizon: float = 1.0
) -> Float[Tensor, "functions points"]:
    """The angle of a gravity pendulum under a force: ``s'' = -k sin s + u``, at rest at the start.

    Args:
        u: the force on an even grid of [0, horizon].
        k: gravity over length.
        horizon: the last time.
    """

    def rate(s: Tensor, force: Tensor) -> Tensor:
        angle, speed = s[:, :1], s[:, 1:]
        return torch.cat([speed, force - k * angle.sin()], 1)

    return solve_ode(rate, u, torch.zeros_like(u[:, :2]), horizon)[..., 0]


def diffusion_reaction(
    u: Float[Tensor, "functions points"], diffusion: float = 0.01, reaction: float = 0.01, times: int = 100
) -> Float[Tensor, "functions times points"]:
    """``s_t = D s_xx + k s² + u(x)`` on [0, 1]², zero at the start and at both ends.

    Diffusion by Crank and Nicolson's method, reaction by Adams and Bashforth's: second order in both steps.

    Args:
        u: the source on an even grid of [0, 1].
        diffusion: D.
        reaction: k.
        times: points in time, the start included.

    Raises:
        ValueError: fewer than two times or three points.
    """
    points = u.shape[1]
    if times < 2 or points < 3:
        raise ValueError(f"times must be at least 2 and points at least 3, not {times} and {points}")
    step, space = 1 / (times - 1), 1 / (points - 1)
    inner = torch.zeros(points - 2, points - 2, dtype=torch.float64)
    inner.diagonal().fill_(-2.0)
    inner.diagonal(1).fill_(1.0)
    inner.diagonal(-1).fill_(1.0)
    spread = inner * (step / 2 * diffusion / space**2)
    one = torch.eye(points - 2, dtype=torch.float64)
    forward = torch.linalg.solve(one - spread, one + spread).to(u)  # of the old state, and of what is added to it
    added = torch.linalg.solve(one - spread, step * one).to(u)
    source = u[:, 1:-1]
    s = torch.zeros_like(source)
    before, states = torch.zeros_like(source), [s]
    for _ in range(times - 1):
        now = reaction * s.square()
        s = s @ forward.mT + (source + 1.5 * now - 0.5 * before) @ added.mT
        before = now
        states.append(s)
    return torch.nn.functional.pad(torch.stack(states, 1), (1, 1))


def _between(u: Tensor) -> Tensor:
    """Values halfway between points, by the cubic through the four nearest; straight lines for fewer than four."""
    if u.shape[1] < 4:
        return (u[:, 1:] + u[:, :-1]) / 2
    middle = (9 * (u[:, 1:-2] + u[:, 2:-1]) - u[:, :-3] - u[:, 3:]) / 16
    first = (5 * u[:, :1] + 15 * u[:, 1:2] - 5 * u[:, 2:3] + u[:, 3:4]) / 16
    last = (5 * u[:, -1:] + 15 * u[:, -2:-1] - 5 * u[:, -3:-2] + u[:, -4:-3]) / 16
    return torch.cat([first, middle, last], 1)
