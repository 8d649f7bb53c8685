"""The picture of the whole house: every paper's first curves side by side, its claims as dots below."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from neurarium.lab.figures import Curve, Figure
from neurarium.lab.finding import Finding
from neurarium.lab.site.curves import Band, bands
from neurarium.lab.thinning import Rows, thin

WIDTH, GAP, LABEL = 960, 10, 24
_COLOURS = (
    "#0b6fb3",
    "#d4570a",
    "#059268",
    "#b8548f",
    "#38a0d8",
    "#c98b00",
    "#7a5bb0",
    "#6f7880",
    "#8c5a17",
    "#5b8f12",
)
_DOTS = {"reproduced": "#0a7a55", "undecided": "#c98b00", "not reproduced": "#b8400e"}
_STYLE = """
text { font: 9.5px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #59646e; }
.cell { fill: #f6f8f9; stroke: #dfe4e8; } path { fill: none; stroke-width: 1.4; stroke-linejoin: round; }
@media (prefers-color-scheme: dark) { text { fill: #a1acb5; } .cell { fill: #1b2125; stroke: #323a41; } }
"""


@dataclass(frozen=True)
class Cell:
    """What is drawn of a paper.

    Args:
        slug: of the study.
        title: of the paper.
        figures: in the study's order.
        curves: what each figure draws.
        outcomes: of the claims; None where one was not judged.
    """

    slug: str
    title: str
    figures: Sequence[Figure]
    curves: Sequence[Mapping[str, Mapping[int, Rows]]]
    outcomes: Sequence[str | None]


def cell_of(finding: Finding) -> Cell:
    """The cell of a finding."""
    outcomes = [verdict.outcome if verdict else None for verdict in finding.verdicts]
    return Cell(finding.entry.slug, finding.paper.title, finding.figures, finding.curves, outcomes)


def wall(cells: Sequence[Cell], links: Mapping[str, str] | None = None) -> str:
    """An SVG with every paper that has curves, in the order given; empty where none has.

    A cell shows the means over seeds of the study's first figure that is drawn from curves, an arm in one colour, on
    axes of its own; the dots are the claims: reproduced, undecided, not reproduced.

    Args:
        cells: the papers.
        links: slug -> address, for a picture inside a page that has the style already; None for a file of its own.
    """
    drawn = [(cell, lines) for cell in cells if (lines := _first_lines(cell))]
    if not drawn:
        return ""
    columns = 8 if len(drawn) <= 48 else 12
    side = (WIDTH - GAP * (columns - 1)) / columns
    height = 0.68 * side
    total = math.ceil(len(drawn) / columns) * (height + LABEL + GAP)
    parts = []
    for i, (cell, lines) in enumerate(drawn):
        left, top = (i % columns) * (side + GAP), (i // columns) * (height + LABEL + GAP)
        part = _draw(cell, lines, left, top, side, height)
        parts.append(f'<a href="{escape(links[cell.slug])}">{part}</a>' if links else part)
    style = "" if links else f"<style>{_STYLE}</style>"
    return (
        f'<svg class="wall" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total:.0f}" role="img" '
        f'aria-label="Curves of {len(drawn)} papers">{style}\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _first_lines(cell: Cell) -> list[tuple[str, Band]]:
    """(colour, line) of the first figure that has lines."""
    for figure, curves in zip(cell.figures, cell.curves, strict=False):
        if not isinstance(figure, Curve):
            continue
        lines = [
            (_COLOURS[i % len(_COLOURS)], _scaled(band, figure))
            for i, by_seed in enumerate(curves.values())
            for band in bands(by_seed, figure.x, figure.y, figure.series)[:6]
        ]
        lines = [(colour, band) for colour, band in lines if len(_points(band)) > 1]
        if lines:
            return lines[:18]
    return []


def _scaled(band: Band, figure: Curve) -> Band:
    """The line on the figure's axes, logarithms taken where an axis is logarithmic."""

    def scaled(value: float | None, log: bool) -> float | None:
        if value is None or not math.isfinite(value) or (log and value <= 0):
            return None
        return math.log10(value) if log else value

    xs = [scaled(x, figure.log_x) for x in band.x]
    ys = [scaled(y, figure.log_y) for y in band.mean]
    kept = [(x, y) for x, y in zip(xs, ys, strict=True) if x is not None]
    return Band(band.name, [x for x, _ in kept], [y for _, y in kept], [], [], {})


def _points(band: Band) -> list[tuple[float, float]]:
    return [(x, y) for x, y in zip(band.x, band.mean, strict=True) if y is not None]


def _draw(cell: Cell, lines: Sequence[tuple[str, Band]], left: float, top: float, side: float, height: float) -> str:
    every = [point for _, band in lines for point in _points(band)]
    (x0, x1), (y0, y1) = ((min(values), max(values)) for values in zip(*every, strict=True))
    pad = 6.0

    def at(x: float, y: float) -> str:
        across = (x - x0) / (x1 - x0) if x1 > x0 else 0.5
        up = (y - y0) / (y1 - y0) if y1 > y0 else 0.5
        return f"{left + pad + across * (side - 2 * pad):.1f} {top + height - pad - up * (height - 2 * pad):.1f}"

    paths = "".join(
        f'<path stroke="{colour}" d="M{"L".join(at(x, y) for x, y in thin(_points(band), 32))}"/>'
        for colour, band in lines
    )
    slug = cell.slug
    longest = max(int(side / 5.4), 6)
    name = slug if len(slug) <= longest else slug[: longest - 1] + "…"
    step = min(7.0, (side - 4) / max(len(cell.outcomes), 1))
    dots = "".join(
        f'<circle cx="{left + 3 + i * step:.1f}" cy="{top + height + 19:.1f}" r="2.3" '
        f'fill="{_DOTS.get(outcome or "", "#8b96a0")}"/>'
        for i, outcome in enumerate(cell.outcomes)
    )
    return (
        f'<g><title>{escape(cell.title)}</title><rect class="cell" x="{left:.1f}" y="{top:.1f}" '
        f'width="{side:.1f}" height="{height:.1f}" rx="5"/>{paths}'
        f'<text x="{left + 1:.1f}" y="{top + height + 11:.1f}">{escape(name)}</text>{dots}</g>'
    )
