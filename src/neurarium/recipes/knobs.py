"""Knobs: the numbers of an idea that are worth choosing for a problem, each with its range and its default."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Real:
    """A real number.

    Args:
        low: smallest value worth trying.
        high: largest value worth trying.
        default: what is used when nothing is tuned.
        log: draw it on a logarithmic scale.
    """

    low: float
    high: float
    default: float
    log: bool = False

    def __contains__(self, value: Any) -> bool:
        return isinstance(value, int | float) and math.isfinite(value) and self.low <= value <= self.high

    def to_optuna(self) -> Any:
        """The knob as an Optuna distribution."""
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Whole:
    """A whole number; the arguments are those of `Real`, both ends included."""

    low: int
    high: int
    default: int
    log: bool = False

    def __contains__(self, value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    def to_optuna(self) -> Any:
        """The knob as an Optuna distribution."""
        from optuna.distributions import IntDistribution

        return IntDistribution(self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Choice:
    """One of a few values.

    Args:
        options: text, numbers, True or False.
        default: one of them.
    """

    options: tuple[str | int | float | bool, ...]
    default: str | int | float | bool

    def __contains__(self, value: Any) -> bool:
        return value in self.options

    def to_optuna(self) -> Any:
        """The knob as an Optuna distribution."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.options)


Knob = Real | Whole | Choice
Knobs = Mapping[str, Any]
"""A value for each knob of a recipe."""


def rate(default: float = 1e-3, low: float = 1e-4, high: float = 3e-2) -> Real:
    """A learning rate."""
    return Real(low, high, default, log=True)
