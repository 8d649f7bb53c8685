"""Claims: a sentence of a paper as a predicate on metrics, its margin fixed before it is run.

A `Quantity` is one number per seed, from the metrics of one or more arms at that seed. Comparing it with a margin
gives a `Predicate`; a `Claim` joins the predicate to the paper's sentence. Evaluation is on paired seeds (those that
every named arm finished), with a 95 % Student interval for the mean over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Outcome = Literal["reproduced", "not reproduced", "undecided"]
Table = Mapping[str, Mapping[int, Mapping[str, float]]]
"""arm -> seed -> metric -> value."""


@dataclass(frozen=True)
class Interval:
    """A mean over ``n`` seeds and its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int


def interval(values: Sequence[float], deterministic: bool = False) -> Interval:
    """Student's 95 % interval for the mean of ``values`` (one per seed).

    With fewer than two values the interval is unbounded, except where ``deterministic`` says that a second one would
    be the same number. A value that is not finite makes the mean and the interval undefined (NaN).
    """
    n = len(values)
    if n == 0 or not all(math.isfinite(v) for v in values):
        return Interval(math.nan, math.nan, math.nan, n)
    mean = float(np.mean(values))
    if n == 1:
        return Interval(mean, mean, mean, 1) if deterministic else Interval(mean, -math.inf, math.inf, 1)
    half = student_quantile(n - 1) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def student_quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's distribution."""
    from scipy.stats import t  # half a second to import, and listing studies does not need it

    return float(t.ppf(0.975, freedom))


@dataclass(frozen=True)
class Verdict:
    """What the runs say of one predicate."""

    outcome: Outcome
    estimate: float
    low: float
    high: float
    n: int
    margin: float
    relation: str


@dataclass(frozen=True)
class Quantity:
    """One number per seed. Supports ``+ - * /`` with numbers and quantities, ``abs``, ``>`` and ``<``.

    ``abs`` is that of the mean over seeds, not the mean of absolute values, which seed noise alone would push up.
    """

    text: str
    arms: tuple[str, ...]
    at: Callable[[Mapping[str, Mapping[str, float]]], float]
    folded: bool = False

    def over(self, table: Table) -> dict[int, float]:
        """The quantity at every seed that all its arms finished.

        Raises:
            KeyError: a trial did not return a metric that the quantity names.
        """
        seeds = set.intersection(*(set(table.get(arm, {})) for arm in self.arms))
        return {seed: self.at({arm: table[arm][seed] for arm in self.arms}) for seed in sorted(seeds)}

    def __gt__(self, margin: float) -> Comparison:
        return Comparison(self, ">", float(margin))

    def __lt__(self, margin: float) -> Comparison:
        return Comparison(self, "<", float(margin))

    def __add__(self, other: Quantity | float) -> Quantity:
        return self._join(other, "+", lambda a, b: a + b)

    def __sub__(self, other: Quantity | float) -> Quantity:
        return self._join(other, "−", lambda a, b: a - b)

    def __mul__(self, other: Quantity | float) -> Quantity:
        return self._join(other, "×", lambda a, b: a * b)

    def __truediv__(self, other: Quantity | float) -> Quantity:
        return self._join(other, "/", lambda a, b: a / b if b else math.nan)

    def __abs__(self) -> Quantity:
        return Quantity(f"|{self.text}|", self.arms, self.at, folded=True)

    def interval(self, table: Table, deterministic: bool = False) -> Interval:
        """The mean over seeds and its interval; folded at zero for an absolute value."""
        ci = interval(list(self.over(table).values()), deterministic)
        if not self.folded:
            return ci
        near, far = sorted((abs(ci.low), abs(ci.high)))
        return Interval(abs(ci.mean), near if ci.low * ci.high > 0 else 0.0, far, ci.n)

    def _join(self, other: Quantity | float, sign: str, combine: Callable[[float, float], float]) -> Quantity:
        if self.folded or (isinstance(other, Quantity) and other.folded):
            raise TypeError(f"compare |...| with a margin as it is; it cannot be part of a further sum ({self.text})")
        if isinstance(other, Quantity):
            right = other
            arms = tuple(dict.fromkeys(self.arms + right.arms))
            return Quantity(
                f"({self.text} {sign} {right.text})", arms, lambda rows: combine(self.at(rows), right.at(rows))
            )
        number = float(other)
        return Quantity(f"({self.text} {sign} {number:g})", self.arms, lambda rows: combine(self.at(rows), number))


class Predicate:
    """Something that the metrics decide: a comparison, or several."""

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms whose trials are needed."""
        return tuple(dict.fromkeys(arm for part in self.parts() for arm in part.quantity.arms))

    def parts(self) -> tuple[Comparison, ...]:
        """The single comparisons in it."""
        raise TypeError("use a comparison, all_of or any_of")

    def judge(self, table: Table, deterministic: bool = False) -> Verdict:
        """The verdict on a table of finished trials."""
        raise TypeError("use a comparison, all_of or any_of")

    def __bool__(self) -> bool:
        raise TypeError("a predicate has no truth value before it is run; join several with all_of(...) or any_of(...)")


@dataclass(frozen=True, eq=False)
class Comparison(Predicate):
    """A quantity against a margin."""

    quantity: Quantity
    relation: Literal[">", "<"]
    margin: float

    def __str__(self) -> str:
        return f"{self.quantity.text} {self.relation} {self.margin:g}"

    def parts(self) -> tuple[Comparison, ...]:
        return (self,)

    def judge(self, table: Table, deterministic: bool = False) -> Verdict:
        ci = self.quantity.interval(table, deterministic)
        sign = 1.0 if self.relation == ">" else -1.0
        worst, best = sorted((sign * (ci.low - self.margin), sign * (ci.high - self.margin)))
        outcome: Outcome = "reproduced" if worst > 0 else "not reproduced" if best <= 0 else "undecided"
        return Verdict(outcome, ci.mean, ci.low, ci.high, ci.n, self.margin, self.relation)


@dataclass(frozen=True, eq=False)
class Joined(Predicate):
    """All (or any) of several comparisons; its figures are those of the part that decides."""

    members: tuple[Predicate, ...]
    need: Literal["all", "any"]

    def __str__(self) -> str:
        return (" and " if self.need == "all" else " or ").join(str(member) for member in self.members)

    def parts(self) -> tuple[Comparison, ...]:
        return tuple(part for member in self.members for part in member.parts())

    def judge(self, table: Table, deterministic: bool = False) -> Verdict:
        order = {"not reproduced": 0, "undecided": 1, "reproduced": 2}
        verdicts = sorted((m.judge(table, deterministic) for m in self.members), key=lambda v: order[v.outcome])
        return verdicts[0] if self.need == "all" else verdicts[-1]


def all_of(*members: Predicate) -> Joined:
    """Holds when every member holds; fails when one fails."""
    return Joined(members, "all")


def any_of(*members: Predicate) -> Joined:
    """Holds when one member holds; fails when all fail."""
    return Joined(members, "any")


def value(metric: str, arm: str) -> Quantity:
    """A metric of one arm."""
    return Quantity(f"{metric}[{arm}]", (arm,), lambda rows: rows[arm][metric])


def difference(metric: str, arm: str, baseline: str) -> Quantity:
    """``metric`` of ``arm`` minus that of ``baseline``, seed by seed."""
    text = f"{metric}[{arm} − {baseline}]"
    return Quantity(text, (arm, baseline), lambda rows: rows[arm][metric] - rows[baseline][metric])


def ratio(metric: str, arm: str, baseline: str) -> Quantity:
    """``metric`` of ``arm`` divided by that of ``baseline``, seed by seed; undefined where the baseline is 0."""

    def at(rows: Mapping[str, Mapping[str, float]]) -> float:
        below = rows[baseline][metric]
        return rows[arm][metric] / below if below else math.nan

    return Quantity(f"{metric}[{arm} / {baseline}]", (arm, baseline), at)


def correlation(metric_x: str, metric_y: str, arms: Sequence[str]) -> Quantity:
    """Pearson's correlation of two metrics across arms, one value per seed; undefined where one does not vary."""
    names = tuple(arms)
    if len(names) < 3:
        raise ValueError("a correlation across arms needs at least three arms")

    def at(rows: Mapping[str, Mapping[str, float]]) -> float:
        x, y = (np.array([rows[arm][metric] for arm in names]) for metric in (metric_x, metric_y))
        if np.ptp(x) == 0 or np.ptp(y) == 0:
            return math.nan
        return float(np.corrcoef(x, y)[0, 1])

    return Quantity(f"correlation({metric_x}, {metric_y})", names, at)


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper and the predicate that tests it.

    Args:
        text: the claim in one plain sentence.
        source: where the paper makes it ("Fig. 2A", "Theorem 1", "abstract").
        predicate: a comparison, or several joined by `all_of` or `any_of`.
        published: the paper's own number for it, as the paper gives it ("98.2 % against 96.1 %"); empty where it
            gives none.
    """

    text: str
    source: str
    predicate: Predicate
    published: str = ""

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms whose trials the claim needs."""
        return self.predicate.arms

    def judge(self, table: Table, deterministic: bool = False) -> Verdict:
        """The verdict on a table of finished trials."""
        return self.predicate.judge(table, deterministic)
