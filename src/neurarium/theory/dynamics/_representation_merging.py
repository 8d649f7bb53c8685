"""Two words whose representations move by themselves under one linear read-out: do they merge? (2025)

Van Rossem and Saxe let each representation h_i (a coordinate on the line through both) and the read-out f(h) = b + D h
descend the loss (1/2) mean |f(h_i) - y_i|^2 together::

    h_i' = -(r_i / 2) D . (b + D h_i - y_i)
    b'   = -(r_b / N) (b + mean(h) D - mean(y))
    D'   = -(r_D / N) (mean(h^2) D + mean(h) b - mean(h y))

Only nine numbers move: h_1, h_2, and the products of b and D with each other, themselves and the targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Merging:
    """The motion of two representations.

    Args:
        time: moments.
        distance: h_2 - h_1.
        loss: half the mean squared error of the two.
        slope: |D|^2, how much the read-out is in use.
        scale: |D| at the start.
    """

    time: Float[Tensor, " moments"]
    distance: Float[Tensor, " moments"]
    loss: Float[Tensor, " moments"]
    slope: Float[Tensor, " moments"]
    scale: float


def merging_dynamics(
    h: tuple[float, float],
    targets: Float[Tensor, "2 outputs"],
    rates: tuple[float, float, float, float],
    initial: float | tuple[Tensor, Tensor],
    duration: float,
    moments: int = 200,
    shared: float = 1.0,
) -> Merging:
    """Solve the equations.

    Args:
        h: where the two begin.
        targets: what they are to be read out as.
        rates: of h_1, h_2, the bias b and the slope D.
        initial: b and D, or |D| alone, which stands for b = 0 and a D that has no product with the targets.
        duration: until when.
        moments: how many, evenly spaced, the start among them.
        shared: N, how much other data share the read-out, which slows it.

    Raises:
        ValueError: a rate or the duration is negative, ``shared`` not above 0, or targets that are no two vectors.
    """
    from scipy.integrate import solve_ivp  # a second to import

    y = targets.detach().double().cpu().numpy()
    if y.ndim != 2 or len(y) != 2:
        raise ValueError(f"targets must be [2, outputs], not {tuple(targets.shape)}")
    if min(*rates, duration) < 0 or shared <= 0 or moments < 2:
        raise ValueError("rates and duration must not be negative, shared be above 0, and moments be at least 2")
    gram = y @ y.T
    if isinstance(initial, tuple):
        b, d = (v.detach().double().cpu().numpy() for v in initial)
        products = [b @ d, *(y @ b), b @ b, d @ d, *(y @ d)]
    else:
        products = [0.0, 0.0, 0.0, 0.0, float(initial) ** 2, 0.0, 0.0]
    start = np.array([*h, *products])
    times = np.linspace(0.0, duration, moments)
    found = solve_ivp(
        lambda _, s: _velocity(s, gram, rates, shared), (0.0, duration), start, "LSODA", times, rtol=1e-9, atol=1e-12
    )
    if not found.success:
        raise ValueError(f"the equations could not be solved: {found.message}")
    place, loss = found.y[:2], np.zeros(len(times))
    b_d, b_y, b_b, d_d, d_y = found.y[2], found.y[3:5], found.y[5], found.y[6], found.y[7:9]
    for i in range(2):
        x = place[i]
        loss += (b_b + x**2 * d_d + gram[i, i] + 2 * x * b_d - 2 * b_y[i] - 2 * x * d_y[i]) / 4
    as_tensor = torch.from_numpy
    return Merging(
        as_tensor(times), as_tensor(place[1] - place[0]), as_tensor(loss), as_tensor(d_d.copy()), float(start[6]) ** 0.5
    )


def _velocity(
    state: np.ndarray, gram: np.ndarray, rates: tuple[float, float, float, float], shared: float
) -> np.ndarray:
    h, b_d, b_y, b_b, d_d, d_y = state[:2], state[2], state[3:5], state[5], state[6], state[7:9]
    first, second = h.mean(), (h**2).mean()
    bias, slope = rates[2] / shared, rates[3] / shared
    moved = -np.array(rates[:2]) / 2 * (b_d + d_d * h - d_y)
    cross = -bias * (b_d + first * d_d - d_y.mean()) - slope * (second * b_d + first * b_b - (h * b_y).mean())
    with_bias = -bias * (b_y + first * d_y - gram.mean(0))
    with_slope = -slope * (second * d_y + first * b_y - h @ gram / 2)
    square_bias = -2 * bias * (b_b + first * b_d - b_y.mean())
    square_slope = -2 * slope * (second * d_d + first * b_d - (h * d_y).mean())
    return np.array([*moved, cross, *with_bias, square_bias, square_slope, *with_slope])


def fit_merging(
    time: Float[Tensor, " moments"],
    distance: Float[Tensor, " moments"],
    targets: Float[Tensor, "2 outputs"],
    rates: tuple[float, float, float, float],
    shared: float = 1.0,
) -> Merging:
    """The motion whose initial scale |D| fits a measured distance best, in the mean square of relative distances.

    Args:
        time: when the distance was measured, evenly spaced from 0.
        distance: between the representations of two words.
        targets: of the two words.
        rates: of h_1, h_2, b and D.
        shared: N, as for `merging_dynamics`.

    Raises:
        ValueError: fewer than three moments, or a distance of 0 at the start.
    """
    from scipy.optimize import minimize_scalar

    if len(time) < 3 or len(time) != len(distance) or float(distance[0]) <= 0:
        raise ValueError("fit_merging needs distances at three moments or more, the first of them above 0")
    start = float(distance[0])

    def motion(log_scale: float) -> Merging:
        h = (-start / 2, start / 2)
        return merging_dynamics(h, targets, rates, float(np.exp(log_scale)), float(time[-1]), len(time), shared)

    def misfit(log_scale: float) -> float:
        return float((motion(log_scale).distance - distance.double().cpu()).square().mean()) / start**2

    grid = np.linspace(np.log(1e-3), np.log(10.0), 15)
    best = grid[int(np.argmin([misfit(s) for s in grid]))]
    found = minimize_scalar(misfit, bounds=(best - 0.7, best + 0.7), method="bounded")
    return motion(float(found.x))
