"""Of recorded curves, what a figure can show: the columns it draws, so many points, so many digits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from neurarium.lab.figures import Curve, Figure, Heatmap

Rows = Sequence[Mapping[str, Any]]
Drawn = dict[str, dict[int, list[dict[str, Any]]]]
"""arm -> seed -> rows of the columns that a figure draws."""

MOST_POINTS = 200
"""Points of a line; more than a screen can show only makes files and pages heavy."""


def drawn(figure: Figure, curves: Mapping[str, Mapping[int, Rows]]) -> Drawn:
    """What a figure draws of the recorded rows; empty for figures that are drawn from metrics.

    Rows at equal places are averaged. A line keeps at most `MOST_POINTS` places, the same for all seeds, with six
    digits; its values keep four. A map is averaged over seeds (under seed 0).
    """
    arms = {arm: by_seed for arm, by_seed in curves.items() if not figure.arms or arm in figure.arms}
    if isinstance(figure, Curve):
        found = {arm: _lines(by_seed, figure) for arm, by_seed in arms.items()}
    elif isinstance(figure, Heatmap):
        found = {arm: _map(by_seed, figure) for arm, by_seed in arms.items()}
    else:
        return {}
    return {arm: by_seed for arm, by_seed in found.items() if by_seed}


def _lines(by_seed: Mapping[int, Rows], figure: Curve) -> dict[int, list[dict[str, Any]]]:
    values: dict[Any, dict[int, dict[float, list[float]]]] = {}
    for seed, rows in by_seed.items():
        for row in rows:
            at = numeric(row.get(figure.x))
            if figure.y in row and math.isfinite(at) and (not figure.series or figure.series in row):
                line = values.setdefault(row.get(figure.series), {})
                line.setdefault(seed, {}).setdefault(at, []).append(numeric(row[figure.y]))
    found: dict[int, list[dict[str, Any]]] = {}
    for name, seeds in values.items():
        chosen = set(thin(sorted({x for places in seeds.values() for x in places})))
        named = {figure.series: name} if figure.series else {}
        for seed, places in seeds.items():
            found.setdefault(seed, []).extend(
                {figure.x: digits(x, 6), figure.y: digits(sum(ys) / len(ys)), **named}
                for x, ys in sorted(places.items())
                if x in chosen
            )
    return dict(sorted(found.items()))


def _map(by_seed: Mapping[int, Rows], figure: Heatmap) -> dict[int, list[dict[str, Any]]]:
    cells: dict[tuple[Any, Any], list[float]] = {}
    for rows in by_seed.values():
        for row in rows:
            at = (row.get(figure.x), row.get(figure.y))
            if None not in at and math.isfinite(numeric(row.get(figure.value))):
                cells.setdefault(at, []).append(numeric(row[figure.value]))
    averaged: list[dict[str, Any]] = [
        {figure.x: digits(x, 6), figure.y: digits(y, 6), figure.value: digits(sum(values) / len(values))}
        for (x, y), values in cells.items()
    ]
    return {0: averaged} if averaged else {}


def numeric(value: Any) -> float:
    """A recorded value as a number; NaN where it is text or missing."""
    return float(value) if isinstance(value, (int, float)) else math.nan


def digits(value: Any, count: int = 4) -> Any:
    """A number with so many significant digits; None where it is not finite, and text as it is."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.{count}g}") if math.isfinite(value) else None


def thin(points: Iterable[Any], most: int = MOST_POINTS) -> list[Any]:
    """At most ``most`` points, evenly chosen, the first and the last one kept."""
    every = list(points)
    if len(every) <= most:
        return every
    step = (len(every) - 1) / (most - 1)
    return [every[round(i * step)] for i in range(most)]
