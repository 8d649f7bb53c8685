"""The picture of the whole house: every paper's first curves side by side, its claims as dots below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from neurarium.lab.figures import Curve
from neurarium.lab.finding import Finding
from neurarium.lab.site.curves import Band, bands
from neurarium.lab.thinning import thin

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


def wall(findings: Sequence[Finding]) -> str:
    """An SVG with a cell per finding that has curves, in alphabetical order.

    A cell shows the means over seeds of the study's first figure that is drawn from curves, an arm in one colour, on
    axes of its own; the dots are the claims: reproduced, undecided, not reproduced.
    """
    drawn = [(finding, lines) for finding in findings if (lines := _first_lines(finding))]
    columns = 8 if len(drawn) <= 48 else 12
    side = (WIDTH - GAP * (columns - 1)) / columns
    height = 0.68 * side
    rows = math.ceil(len(drawn) / columns)
    total = rows * (height + LABEL + GAP)
    cells = [
        _cell(finding, lines, (i % columns) * (side + GAP), (i // columns) * (height + LABEL + GAP), side, height)
        for i, (finding, lines) in enumerate(drawn)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total:.0f}" role="img" '
        f'aria-label="Curves of {len(drawn)} papers"><style>{_STYLE}</style>\n' + "\n".join(cells) + "\n</svg>\n"
    )


def _first_lines(finding: Finding) -> list[tuple[str, Band]]:
    """(colour, line) of the first figure that has lines."""
    for figure, curves in zip(finding.figures, finding.curves, strict=False):
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


def _cell(
    finding: Finding, lines: Sequence[tuple[str, Band]], left: float, top: float, side: float, height: float
) -> str:
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
    slug = finding.entry.slug
    longest = max(int(side / 5.4), 6)
    name = slug if len(slug) <= longest else slug[: longest - 1] + "…"
    step = min(7.0, (side - 4) / max(len(finding.claims), 1))
    dots = "".join(
        f'<circle cx="{left + 3 + i * step:.1f}" cy="{top + height + 19:.1f}" r="2.3" '
        f'fill="{_DOTS.get(claim.verdict.outcome if claim.verdict else "", "#8b96a0")}"/>'
        for i, claim in enumerate(finding.claims)
    )
    return (
        f'<g><title>{escape(finding.paper.title)}</title><rect class="cell" x="{left:.1f}" y="{top:.1f}" '
        f'width="{side:.1f}" height="{height:.1f}" rx="5"/>{paths}'
        f'<text x="{left + 1:.1f}" y="{top + height + 11:.1f}">{escape(name)}</text>{dots}</g>'
    )
