"""Figures as plain data (lines, bars, points, cells) that `figures.js` draws; nothing here knows the chart library.

A colour is the name of a CSS variable (`arm-0`, `shade-4`), so that a switch between light and dark changes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from neurarium.lab.figures import Bars, Curve, Figure, Heatmap, Scatter
from neurarium.lab.site.content import ArmRow, PaperPage
from neurarium.lab.site.curves import Band, Grid, Rows, bands, mean_map, natural
from neurarium.lab.site.intervals import finite
from neurarium.lab.site.text import number, words

COLOURS = 10
SHADES = 12
DASHES = ("solid", "dashed", "dotted")
SYMBOLS = ("circle", "rect", "triangle", "diamond", "roundRect")
Panel = dict[str, Any]
ByArm = Mapping[str, Mapping[int, Rows]]
"""arm -> seed -> recorded rows."""


def chart(page: PaperPage, figure: Figure, curves: ByArm) -> dict[str, Any] | None:
    """Title, note, legend and panels of a figure (one, or one per arm); None where nothing was recorded for it.

    Args:
        page: the arms, their metrics and colours.
        figure: what to draw.
        curves: arm -> seed -> rows of the columns that it draws.
    """
    if isinstance(figure, Curve):
        panels, title = _curve(page, figure, curves), f"{words(figure.y)} by {words(figure.x)}"
    elif isinstance(figure, Bars):
        panels, title = _bars(page, figure), words(figure.metric)
    elif isinstance(figure, Scatter):
        panels, title = _scatter(page, figure), f"{words(figure.y)} against {words(figure.x)}"
    elif isinstance(figure, Heatmap):
        panels, title = _heatmaps(page, figure, curves), words(figure.value)
    else:
        return None
    if not panels:
        return None
    drawn = [line for panel in panels for line in panel.get("lines") or panel.get("points") or ()]
    legend = {line["name"]: {key: line.get(key, "solid") for key in ("name", "colour", "dash")} for line in drawn}
    return {
        "title": figure.title or title,
        "note": figure.note,
        "legend": list(legend.values()) if len(legend) > 1 else [],
        "seeds": any(len(line.get("seeds", ())) > 1 for line in drawn),
        "panels": panels,
    }


def colours(page: PaperPage) -> dict[str, str]:
    """One colour per arm, the same in all figures of a page."""
    return {arm: f"arm-{i % COLOURS}" for i, arm in enumerate(_arms(page, ()))}


def _arms(page: PaperPage, chosen: Sequence[str]) -> list[str]:
    every = dict.fromkeys([*(arm.name for arm in page.arms), *(arm for drawn in page.curves for arm in drawn)])
    return [arm for arm in every if not chosen or arm in chosen]


def _rank(page: PaperPage, arm: str) -> int:
    return _arms(page, ()).index(arm)


def _curve(page: PaperPage, figure: Curve, curves: ByArm) -> list[Panel]:
    found = {arm: bands(curves.get(arm, {}), figure.x, figure.y, figure.series) for arm in _arms(page, figure.arms)}
    found = {arm: lines for arm, lines in found.items() if lines}
    if not figure.series:
        hue = colours(page)
        return _one_panel(
            figure,
            [_line(band, arm, hue[arm], _rank(page, arm), figure) for arm, lines in found.items() for band in lines],
        )
    # a series is coloured by its own values, the same in every panel; several arms take a panel each
    names = sorted({band.name for lines in found.values() for band in lines}, key=natural)
    hues = _series_colours(names)
    panels = []
    for arm, lines in found.items():
        drawn = [
            _line(band, _named(figure.series, band.name), hues[band.name], names.index(band.name), figure)
            for band in lines
        ]
        panels += [{**panel, "label": arm if len(found) > 1 else ""} for panel in _one_panel(figure, drawn)]
    ends = [panel["extent"] for panel in panels]
    return [{**panel, "extent": [min(e[0] for e in ends), max(e[1] for e in ends)]} for panel in panels]


def _named(series: str, name: str) -> str:
    """A line of a series: numbers say what they count, text speaks for itself."""
    return f"{words(series)} {name}" if natural(name)[0] == 0 else name


def _series_colours(names: Sequence[str]) -> dict[str, str]:
    """Shades along a scale for what has an order (5, 6, 7; "task 1", "task 2") or outnumbers the colours."""
    numbered = all(name[-1:].isdigit() for name in names) and len({natural(name)[:2] for name in names}) == 1
    ordered = numbered and len(names) > 2
    if not ordered and len(names) <= COLOURS:
        return {name: f"arm-{i}" for i, name in enumerate(names)}
    return {name: f"shade-{round(i * (SHADES - 1) / max(len(names) - 1, 1))}" for i, name in enumerate(names)}


def _line(band: Band, name: str, colour: str, rank: int, figure: Curve) -> dict[str, Any]:
    def shown(x: float, y: float | None) -> bool:
        return y is not None and math.isfinite(y) and not (figure.log_y and y <= 0) and not (figure.log_x and x <= 0)

    points = [
        [_short(x), _short(m), _short(lo), _short(hi)] if shown(x, m) else [_short(x), None, None, None]
        for x, m, lo, hi in zip(band.x, band.mean, band.low, band.high, strict=True)
        if not (figure.log_x and x <= 0)
    ]
    every = band.seeds.values() if len(band.seeds) > 1 else ()
    seeds = [
        [[_short(x), _short(y) if shown(x, y) else None] for x, y in at if not (figure.log_x and x <= 0)]
        for at in every
    ]
    dash = DASHES[rank // COLOURS % len(DASHES)] if colour.startswith("arm") else "solid"
    return {
        "name": name, "colour": colour, "dash": dash, "symbol": SYMBOLS[rank % len(SYMBOLS)], "points": points,
        "seeds": seeds,
    }  # fmt: skip


def _one_panel(figure: Curve, lines: list[dict[str, Any]]) -> list[Panel]:
    lines = [line for line in lines if any(point[1] is not None for point in line["points"])]
    if not lines:
        return []
    extent = _extent(lines, figure.log_y)
    for line in lines:
        for point in line["points"]:
            if figure.log_y and point[2] is not None and point[2] <= 0:
                point[2] = extent[0]  # below what a logarithmic axis can show
    return [
        {
            "kind": "curve", "x": {"name": words(figure.x), "log": figure.log_x},
            "y": {"name": words(figure.y), "log": figure.log_y}, "extent": extent, "lines": lines,
            "alt": "; ".join(_told(line) for line in lines), "height": 320,
        }
    ]  # fmt: skip


def _told(line: Mapping[str, Any]) -> str:
    points = [point for point in line["points"] if point[1] is not None]
    (x0, y0), (x1, y1) = points[0][:2], points[-1][:2]
    return f"{line['name']} goes from {number(y0)} at {number(x0)} to {number(y1)} at {number(x1)}"


def _extent(lines: Sequence[Mapping[str, Any]], log: bool) -> list[float]:
    """The vertical range: every mean and seed, and a quarter more for bands; that of two seeds would flatten all."""
    inner = [p[1] for line in lines for p in line["points"]]
    inner += [p[1] for line in lines for seed in line["seeds"] for p in seed]
    outer = [end for line in lines for p in line["points"] for end in p[2:]]

    def scaled(values: Sequence[float | None]) -> list[float]:
        return [math.log10(v) if log else v for v in values if v is not None and not (log and v <= 0)]

    values = scaled(inner)
    low, high = min(values), max(values)
    room = 0.25 * (high - low) or 0.05 * max(abs(high), 1e-12)
    floor = 0.0 if low >= 0 and not log else -math.inf  # what was never negative is not drawn as if it could be
    low = min(low, max(min(scaled(outer), default=low), low - room, floor))
    high = max(high, min(max(scaled(outer), default=high), high + room))
    return [float(f"{10**v if log else v:.4g}") for v in (low, high)]


def _short(value: float | None) -> float | None:
    """Five digits: more than a screen shows, and half the size of the page."""
    return float(f"{value:.5g}") if value is not None and math.isfinite(value) else None


def _spread(arm: ArmRow, metric: str) -> list[float | None] | None:
    """Mean and ends of the interval of a metric; the cost is known without one."""
    if metric in ("seconds", "peak_memory") and metric not in arm.metrics:
        return [arm.seconds if metric == "seconds" else arm.peak_memory_mb, None, None]
    mean, low, high, _ = arm.metrics.get(metric, (None, None, None, 0))
    return [finite(mean), finite(low), finite(high)] if finite(mean) is not None else None


def _shown(page: PaperPage, figure: Figure) -> list[ArmRow]:
    return [arm for arm in page.arms if not figure.arms or arm.name in figure.arms]


def _bars(page: PaperPage, figure: Bars) -> list[Panel]:
    hue = colours(page)
    bars: list[dict[str, Any]] = [
        {"name": arm.name, "colour": hue[arm.name], "value": spread}
        for arm in _shown(page, figure)
        if (spread := _spread(arm, figure.metric)) is not None
    ]
    if not bars:
        return []
    return [
        {
            "kind": "bars", "x": {"name": _unit(figure.metric)}, "bars": bars, "zero": _from_zero(bars),
            "alt": "; ".join(f"{bar['name']} {number(bar['value'][0])}" for bar in bars), "height": 66 + 34 * len(bars),
        }
    ]  # fmt: skip


def _from_zero(bars: Sequence[Mapping[str, Any]]) -> bool:
    """Whether lengths from zero can be told apart. Where they cannot, the means are dots on an axis of their own."""
    ends = [end for bar in bars for end in bar["value"] if end is not None]
    reach = max(map(abs, ends))
    return min(ends) <= 0 <= max(ends) or len(bars) == 1 or max(ends) - min(ends) > 0.25 * reach


def _unit(metric: str) -> str:
    return {"peak_memory": "peak memory, MB"}.get(metric, words(metric))


def _scatter(page: PaperPage, figure: Scatter) -> list[Panel]:
    hue = colours(page)
    points: list[dict[str, Any]] = []
    for arm in _shown(page, figure):
        x, y = _spread(arm, figure.x), _spread(arm, figure.y)
        if x is not None and y is not None and not (figure.log_x and (x[0] or 0) <= 0):
            if figure.log_x and x[1] is not None and x[1] <= 0:
                x[1] = x[0]  # an end that a logarithmic axis cannot show
            symbol = SYMBOLS[_rank(page, arm.name) % len(SYMBOLS)]
            points.append({"name": arm.name, "colour": hue[arm.name], "symbol": symbol, "x": x, "y": y})
    if not points:
        return []
    told = "; ".join(f"{p['name']} at {number(p['x'][0])}, {number(p['y'][0])}" for p in points)
    axes = {"x": {"name": _unit(figure.x), "log": figure.log_x}, "y": {"name": _unit(figure.y), "log": False}}
    return [{"kind": "scatter", **axes, "points": points, "alt": told, "height": 340}]


def _heatmaps(page: PaperPage, figure: Heatmap, curves: ByArm) -> list[Panel]:
    maps = {arm: mean_map(curves.get(arm, {}), figure.x, figure.y, figure.value) for arm in _arms(page, figure.arms)}
    maps = {arm: grid for arm, grid in maps.items() if grid.cells}
    values = [value for grid in maps.values() for _, _, value in grid.cells]
    if not values:
        return []
    low, high = min(values), max(values)
    if diverging := low < 0 < high:  # a scale that is symmetric around zero
        low, high = -max(-low, high), max(-low, high)
    return [
        {**_heatmap(grid, figure), "label": arm if len(maps) > 1 else "", "range": [low, high], "diverging": diverging}
        for arm, grid in maps.items()
    ]


def _heatmap(grid: Grid, figure: Heatmap) -> Panel:
    values = [value for _, _, value in grid.cells]
    told = f"{len(grid.x)} by {len(grid.y)} cells from {number(min(values))} to {number(max(values))}"
    return {
        "kind": "heatmap", "x": {"name": words(figure.x), "labels": grid.x},
        "y": {"name": words(figure.y), "labels": grid.y}, "cells": [[x, y, _short(v)] for x, y, v in grid.cells],
        "alt": told, "height": 300,
    }  # fmt: skip
