"""From recorded rows of several seeds to a mean line with its band, and to a mean map."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neurarium.lab.claims import interval
from neurarium.lab.thinning import numeric, thin

Rows = Sequence[Mapping[str, Any]]
_ENDING = re.compile(r"(.*?)(\d*)", re.DOTALL)


@dataclass(frozen=True)
class Band:
    """A curve over seeds: at each x the mean and the ends of its 95 % interval.

    The mean is None where a seed has no finite value; the ends are None there and where one seed was recorded.
    """

    name: str
    x: list[float]
    mean: list[float | None]
    low: list[float | None]
    high: list[float | None]
    seeds: dict[int, list[tuple[float, float]]]


@dataclass(frozen=True)
class Grid:
    """A map averaged over seeds: the values along both sides, and (column, row, mean) of every recorded cell."""

    x: list[str]
    y: list[str]
    cells: list[tuple[int, int, float]]


def bands(by_seed: Mapping[int, Rows], x: str, y: str, series: str = "") -> list[Band]:
    """One band per value of ``series`` (one in all without it), mean and Student's 95 % interval over seeds.

    A seed's rows at equal x are averaged first. Seeds that were recorded at different x (seconds, say) are
    interpolated linearly, where all of them reach. Rows whose x is not a finite number are left out.
    """
    points: dict[str, dict[int, dict[float, list[float]]]] = {}
    for seed, rows in by_seed.items():
        for row in rows:
            at = numeric(row.get(x))
            if y in row and math.isfinite(at) and (not series or series in row):
                name = label(row[series]) if series else ""
                points.setdefault(name, {}).setdefault(seed, {}).setdefault(at, []).append(numeric(row[y]))
    return [_band(name, seeds) for name, seeds in sorted(points.items(), key=lambda item: natural(item[0]))]


def _band(name: str, rows: Mapping[int, Mapping[float, list[float]]]) -> Band:
    seeds = {seed: {x: sum(ys) / len(ys) for x, ys in sorted(at.items())} for seed, at in rows.items()}
    shared = set.intersection(*(set(at) for at in seeds.values()))
    everywhere = sorted(set().union(*seeds.values()))
    start, end = max(min(at) for at in seeds.values()), min(max(at) for at in seeds.values())
    between = [x for x in everywhere if start <= x <= end]
    apart = 2 * len(shared) < min(map(len, seeds.values())) and len(between) > 1
    xs = thin(between if apart else everywhere)
    mean: list[float | None] = []
    low: list[float | None] = []
    high: list[float | None] = []
    lines = [(list(at), list(at.values()), at) for at in seeds.values()]
    for x in xs:
        ci = interval([_at(x, *line[:2]) if apart else line[2][x] for line in lines if apart or x in line[2]])
        mean.append(_finite(ci.mean))
        low.append(_finite(ci.low))
        high.append(_finite(ci.high))
    return Band(name, xs, mean, low, high, {seed: thin(at.items()) for seed, at in seeds.items()})


def _at(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """The value at x on the straight lines between points; x lies within them."""
    right = bisect_left(xs, x)
    if xs[right] == x:
        return ys[right]
    share = (x - xs[right - 1]) / (xs[right] - xs[right - 1])
    return (1 - share) * ys[right - 1] + share * ys[right]


def mean_map(by_seed: Mapping[int, Rows], x: str, y: str, value: str) -> Grid:
    """The mean of ``value`` over seeds and rows at every (x, y); cells without a finite value are left out.

    Numbers are put in order and text keeps the order in which it was recorded.
    """
    cells: dict[tuple[str, str], list[float]] = {}
    for rows in by_seed.values():
        for row in rows:
            if row.get(x) is not None and row.get(y) is not None and math.isfinite(numeric(row.get(value))):
                cells.setdefault((label(row[x]), label(row[y])), []).append(numeric(row[value]))
    columns, lines = (
        {name: i for i, name in enumerate(sorted(dict.fromkeys(side), key=_in_order))} for side in _sides(cells)
    )
    means = [(columns[at[0]], lines[at[1]], sum(values) / len(values)) for at, values in cells.items()]
    return Grid(list(columns), list(lines), sorted(means))


def _sides(cells: Iterable[tuple[str, str]]) -> tuple[list[str], list[str]]:
    every = list(cells)
    return [x for x, _ in every], [y for _, y in every]


def label(value: Any) -> str:
    """A value of a recorded column as text: whole numbers without a decimal point."""
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def natural(name: str) -> tuple[int, str, float, str]:
    """Key that sorts numbers by size, then text by the alphabet with a number at its end by size ("task 10")."""
    kind, size = _in_order(name)
    if kind == 0:
        return (0, "", size, name)
    stem, digits = _ENDING.fullmatch(name).groups()  # type: ignore[union-attr]  # it matches any text
    return (1, stem, float(digits or -1), name)


def _in_order(name: str) -> tuple[int, float]:
    try:
        return (0, float(name))
    except ValueError:
        return (1, 0.0)


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
