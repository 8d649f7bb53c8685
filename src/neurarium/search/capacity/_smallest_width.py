"""The width at which networks begin to succeed."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from neurarium.data import Arrays
from neurarium.search.capacity._train_together import train_together


@dataclass(frozen=True)
class PhaseTransition:
    """Successes at each width.

    Args:
        widths: that were tried, in rising order.
        outcomes: whether each network succeeded, [widths, networks].
        interval: 95 % of the bootstrap of `width` over networks; infinite where no width is enough.
        middle: where a logistic curve in the logarithm of the width crosses one half.
        sharpness: that curve's slope: of the log-odds for each factor of e in width.
    """

    widths: tuple[int, ...]
    outcomes: Bool[Tensor, "widths networks"]
    interval: tuple[float, float]
    middle: float
    sharpness: float

    @property
    def rates(self) -> Float[Tensor, " widths"]:
        """Share of successes at each width."""
        return self.outcomes.double().mean(1)

    @property
    def width(self) -> float:
        """The smallest width at which half of the networks or more succeed; infinite where none is."""
        return smallest(self.widths, self.rates.numpy())

    def summary(self) -> str:
        """The width, its interval and the rates."""
        rates = ", ".join(f"{w}: {float(r):.0%}" for w, r in zip(self.widths, self.rates))
        low, high = self.interval
        return f"half of the networks succeed from width {self.width:g} ({low:g} to {high:g}); {rates}"

    def plot(self, ax: Any) -> Any:
        """Rates against width, and the logistic curve."""
        ax.plot(self.widths, self.rates, "o")
        x = np.geomspace(self.widths[0], self.widths[-1], 200)
        ax.plot(x, 1 / (1 + np.exp(-self.sharpness * np.log(x / self.middle))))
        ax.set(xscale="log", xlabel="width", ylabel="share that succeeds", ylim=(-0.03, 1.03))
        return ax


def smallest_width(
    build: Callable[[int], nn.Module], data: Arrays, widths: Sequence[int], seeds: Iterable[int],
    success: Callable[[nn.Module], bool], **training: Any,
) -> PhaseTransition:  # fmt: skip
    """Train networks of several widths, and find where they begin to succeed (Guss and Salakhutdinov, section 4).

    Args:
        build: makes a network of a width, from torch's random state.
        data: what they are trained on.
        widths: to try.
        seeds: one network of each width for each.
        success: whether a trained network does what is wanted: has the data's homology, say.
        training: handed on to `train_together`: ``steps``, ``learning_rate``, ``loss``.

    Raises:
        ValueError: no width, or one twice.
    """
    ordered, all_seeds = sorted(widths), list(seeds)
    if not ordered or len(set(ordered)) < len(ordered):
        raise ValueError("widths must name at least one width, and each once")
    outcomes = []
    for width in ordered:
        models = train_together(functools.partial(build, width), data, all_seeds, **training)
        outcomes.append([bool(success(model)) for model in models])
    return phase_transition(ordered, torch.tensor(outcomes))


def phase_transition(widths: Sequence[int], outcomes: Bool[Tensor, "widths networks"]) -> PhaseTransition:
    """What the outcomes at some widths say."""
    table = outcomes.double().numpy()
    draw = np.random.default_rng(0)
    again = [smallest(widths, table[:, draw.integers(0, table.shape[1], table.shape[1])].mean(1)) for _ in range(400)]
    low, high = np.quantile(again, [0.025, 0.975], method="nearest")
    middle, slope = _logistic(np.log(np.array(widths, float)), table)
    return PhaseTransition(tuple(widths), outcomes, (float(low), float(high)), middle, slope)


def smallest(widths: Sequence[int], rates: np.ndarray) -> float:
    """The first width of at least one half; infinite where none is."""
    return next((float(width) for width, rate in zip(widths, rates) if rate >= 0.5), math.inf)


def _logistic(x: np.ndarray, table: np.ndarray) -> tuple[float, float]:
    """Crossing and slope of the likeliest logistic curve; a weak prior keeps both finite where all is clear-cut."""
    from scipy.optimize import minimize

    def cost(theta: np.ndarray) -> float:
        odds = math.exp(theta[1]) * (x - theta[0])[:, None]
        return float((np.logaddexp(0, odds) - table * odds).sum() + 0.02 * (theta[1] ** 2 + (theta[0] - x.mean()) ** 2))

    found = minimize(cost, np.array([x.mean(), 0.5]), method="Nelder-Mead")
    return float(np.exp(found.x[0])), float(math.exp(found.x[1]))
