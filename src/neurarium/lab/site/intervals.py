"""The interval of a claim drawn against its margin, as an inline SVG."""

from __future__ import annotations

import math

from markupsafe import Markup

from neurarium.lab.site.content import ClaimRow
from neurarium.lab.site.text import number

_LEAST_PAD = 1e-9


def finite(value: float | None) -> float | None:
    """The value, or None where it is not a finite number."""
    return value if value is not None and math.isfinite(value) else None


def interval_plot(claim: ClaimRow) -> Markup:
    """The 95 % interval on an axis with the margin; the side where the claim holds is tinted.

    An end without a bound runs out of the picture. Positions are in percent, so the text keeps its size on any screen.
    Empty where there is no estimate.
    """
    estimate, margin = finite(claim.estimate), finite(claim.margin)
    if estimate is None or margin is None:
        return Markup("")
    low, high = finite(claim.low), finite(claim.high)
    known = [v for v in (estimate, margin, low, high) if v is not None]
    pad = max(0.14 * (max(known) - min(known)), _LEAST_PAD, 1e-6 * max(map(abs, known)))
    if low is None or high is None:
        pad *= 3  # room for the end that has no bound
    start, end = min(known) - pad, max(known) + pad

    def at(value: float) -> float:
        return 100 * (value - start) / (end - start)

    left, right = at(low) if low is not None else 0.0, at(high) if high is not None else 100.0
    holds = (at(margin), 100 - at(margin)) if claim.relation == ">" else (0.0, at(margin))
    said = f"{number(estimate)}, 95 % interval {number(claim.low)} to {number(claim.high)}; margin {number(margin)}"
    caps = "".join(_cap(at(v)) for v in (low, high) if v is not None)
    return Markup(
        f'<svg class="interval" role="img" aria-label="{said}">'
        f'<rect class="holds" x="{holds[0]:.2f}%" y="16" width="{holds[1]:.2f}%" height="22"/>'
        f'<line class="axis" x1="0" x2="100%" y1="38" y2="38"/>'
        f'<line class="margin" x1="{at(margin):.2f}%" x2="{at(margin):.2f}%" y1="12" y2="42"/>'
        f'<line class="spread" x1="{left:.2f}%" x2="{right:.2f}%" y1="27" y2="27"/>{caps}'
        f'<circle class="estimate" cx="{at(estimate):.2f}%" cy="27" r="5"/>'
        f"{_text(at(estimate), 11, number(estimate), 'measured')}"
        f"{_text(at(margin), 54, 'margin ' + number(margin), 'soft')}"
        "</svg>"
    )


def _cap(x: float) -> str:
    return f'<line class="spread" x1="{x:.2f}%" x2="{x:.2f}%" y1="22" y2="32"/>'


def _text(x: float, y: int, text: str, kind: str) -> str:
    anchor = "start" if x < 12 else "end" if x > 88 else "middle"
    return f'<text class="{kind}" x="{x:.2f}%" y="{y}" text-anchor="{anchor}">{text}</text>'
