"""Vectors of rational numbers over one denominator: a network with whole weights computes with them exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

LARGEST = 2**62
"""Products and sums stay below this in 64 bits; where they would not, Python's integers take over."""


class Matrix:
    """Rational weights: whole numbers over one denominator.

    Args:
        entries: the numerators.
        below: the denominator.
    """

    def __init__(self, entries: np.ndarray, below: int = 1) -> None:
        self.entries = entries.astype(np.int64)
        self.below = below
        self.bound = int(np.abs(self.entries).sum(1).max(initial=0))


@dataclass(frozen=True)
class Rational:
    """Numbers ``numerators / denominator``.

    Args:
        numerators: 64-bit integers, or Python's (dtype object).
        denominator: above 0.
    """

    numerators: np.ndarray
    denominator: int = 1

    @property
    def size(self) -> int:
        """Largest numerator, without its sign."""
        return int(np.abs(self.numerators).max(initial=0))

    def apply(self, weight: Matrix) -> Rational:
        """``weight @ self``."""
        small = self.numerators.dtype != object and self.size * weight.bound < LARGEST
        if small:
            return Rational(weight.entries @ self.numerators, self.denominator * weight.below).reduced()
        vector = weight.entries.astype(object) @ self.numerators.astype(object)
        return Rational(vector, self.denominator * weight.below).reduced()

    def saturated(self) -> Rational:
        """Each number brought between 0 and 1."""
        return Rational(np.clip(self.numerators, 0, self.denominator), self.denominator).reduced()

    def plus(self, other: Rational) -> Rational:
        """The sum."""
        common = math.lcm(self.denominator, other.denominator)
        return Rational(self._over(common) + other._over(common), common)

    def joined(self, other: Rational) -> Rational:
        """One vector after the other."""
        common = math.lcm(self.denominator, other.denominator)
        return Rational(np.concatenate([self._over(common), other._over(common)]), common)

    def reduced(self) -> Rational:
        """With the smallest denominator."""
        if self.denominator == 1:
            return self
        if self.numerators.dtype == object or self.denominator >= LARGEST:
            divisor = math.gcd(self.denominator, *map(int, self.numerators))
        else:
            divisor = int(np.gcd(np.gcd.reduce(self.numerators), self.denominator))
        if divisor == 1:
            return self
        return Rational(self.numerators // divisor, self.denominator // divisor)

    def floats(self) -> np.ndarray:
        """Rounded to double precision."""
        return np.array([int(n) / self.denominator for n in self.numerators])

    def _over(self, common: int) -> np.ndarray:
        factor = common // self.denominator
        wide = self.size * factor >= LARGEST
        vector: Any = self.numerators.astype(object) if wide else self.numerators
        return vector * factor


class Memory:
    """Keys and values of all positions so far, rational, and the key that is nearest to being orthogonal to a query."""

    def __init__(self, width: int, features: int) -> None:
        self.keys = np.zeros((16, width), np.int64)
        self.values = np.zeros((16, features), np.int64)
        self.below = np.ones((2, 16), np.int64)  # denominators of keys and values
        self.count = 0

    def add(self, key: Rational, value: Rational) -> None:
        """One position more.

        Raises:
            OverflowError: a number that 64 bits do not hold.
        """
        if max(key.size, value.size, key.denominator, value.denominator) >= LARGEST:
            raise OverflowError("a key or value has a numerator that 64 bits do not hold")
        if self.count == len(self.keys):
            self.keys, self.values = (np.concatenate([a, np.zeros_like(a)]) for a in (self.keys, self.values))
            self.below = np.concatenate([self.below, np.ones_like(self.below)], 1)
        self.keys[self.count], self.values[self.count] = key.numerators, value.numerators
        self.below[:, self.count] = key.denominator, value.denominator
        self.count += 1

    def nearest(self, query: Rational) -> Rational:
        """The value where |<query, key>| is least, their mean where several are.

        Scores are compared as fractions, by cross-multiplication.

        Raises:
            OverflowError: a product that 64 bits do not hold.
        """
        keys, below = self.keys[: self.count], self.below[0, : self.count]
        bound = query.size * int(np.abs(keys).sum(1).max())
        if bound * int(below.max()) >= LARGEST:
            raise OverflowError(f"after {self.count} steps the scores are too fine for 64-bit integers")
        size = np.abs(keys @ query.numerators)
        best = int(np.argmin(size / below))
        while True:
            difference = size * below[best] - size[best] * below
            closer = int(np.argmin(difference))
            if difference[closer] >= 0:
                break
            best = closer
        return self._mean(np.flatnonzero(difference == 0))

    def mean(self) -> Rational:
        """The mean of all values."""
        return self._mean(np.arange(self.count))

    def _mean(self, rows: np.ndarray) -> Rational:
        below = self.below[1, rows]
        common = int(np.lcm.reduce(below))
        total = (self.values[rows] * (common // below)[:, None]).sum(0)
        return Rational(total, common * len(rows)).reduced()
