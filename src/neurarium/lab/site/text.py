"""How numbers, durations, names and addresses are written on the pages."""

from __future__ import annotations

import json
import math
import re
from typing import Any
from urllib.parse import urlsplit

from markupsafe import Markup, escape


def number(value: float | None) -> str:
    """A number with three or four significant digits; a dash where there is none."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if 1000 <= abs(value) < 1e6:
        return f"{value:,.0f}".replace(",", " ").replace("-", "−")
    text = f"{value:.4g}" if abs(value) >= 100 else f"{value:.3g}"
    return text.replace("-", "−")


def duration(seconds: float) -> str:
    """A time as a reader would say it: "0.42 s", "3 min 20 s", "2 h 5 min"; a dash for none."""
    if not math.isfinite(seconds) or seconds <= 0:
        return "–"
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def setting(value: Any) -> str:
    """A setting's value: a float without the digits that binary adds, a sequence with commas."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.10g}"
    return ", ".join(setting(item) for item in value) if isinstance(value, (list, tuple)) else str(value)


def words(name: str) -> str:
    """A metric's or column's name as words."""
    return name.replace("_", " ")


def prose(text: str) -> Markup:
    """A docstring's text: what stands between backticks is code."""
    return Markup(re.sub(r"(`+)([^`]+)\1", r"<code>\2</code>", str(escape(text))))


def address(link: str) -> str:
    """A link that may be followed: a web page or a file; empty for any other scheme (``javascript:``, say)."""
    try:
        scheme = urlsplit(link).scheme
    except ValueError:
        return ""
    return link if scheme in ("http", "https", "file") else ""


def file_name(slug: str) -> str:
    """The name of a study's page: the slug with what a file name or an address cannot hold replaced."""
    name = re.sub(r"[^\w.-]+", "-", slug).strip("-.") or "study"
    return "index-study.html" if name.lower() == "index" else f"{name}.html"


def script(value: Any) -> Markup:
    """A value as JSON that is safe inside a script element: numbers that are not finite become null."""
    text = json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
