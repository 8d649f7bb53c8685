"""Tables for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from neurarium.lab.claims import Interval
from neurarium.lab.finding import Finding

STYLES = {"reproduced": "green", "not reproduced": "red", "undecided": "yellow"}


def console() -> Console:
    """Standard output; wide where it is not a terminal, so that tables in files and pipes are whole."""
    found = Console()
    return found if found.is_terminal else Console(width=160)


def number(value: float) -> str:
    """A number with three or four significant digits, large ones with all before the point."""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if abs(value) >= 1000:
        return f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.4g}"
    return "–" if math.isnan(value) else f"{value:.4g}" if abs(value) >= 100 else f"{value:.3g}"


def spread(ci: Interval) -> str:
    """Mean and half-width of an interval."""
    half = (ci.high - ci.low) / 2
    return (
        number(ci.mean) if ci.n < 2 or half == 0 or not math.isfinite(half) else f"{number(ci.mean)} ± {number(half)}"
    )


def print_finding(console: Console, finding: Finding) -> None:
    """Arms with their metrics, seconds and memory; then the claims with their verdicts.

    A comparison makes no claims: it shows all that was measured, its own seconds and bytes among them.
    """
    arms = Table(title=escape(f"{finding.entry.slug} · {finding.scale}"), title_justify="left", header_style="bold")
    arms.add_column("arm")
    metrics = shown_metrics(finding)
    for name in metrics:
        arms.add_column(escape(name.replace("_", " ")), justify="right")
    cost = ("seeds", "seconds", "memory") if finding.claims else ("seeds",)
    for name in cost:
        arms.add_column(name, justify="right")
    for arm, row in finding.arms.items():
        cells = [spread(row.metrics[name]) if name in row.metrics else "" for name in metrics]
        spent = [str(len(row.seeds)), number(row.seconds), f"{row.peak_memory / 2**20:.0f} MB"]
        arms.add_row(escape(arm), *cells, *spent[: len(cost)])
    console.print(arms)
    if not finding.claims:
        return
    claims = Table(header_style="bold")
    for name, justify in (("claim", "left"), ("paper", "left"), ("test", "left"), ("measured", "right"), ("", "left")):
        claims.add_column(name, justify=justify)  # type: ignore[arg-type]
    for claim in finding.claims:
        words, verdict = [escape(text) for text in (claim.text, claim.source, claim.predicate)], claim.verdict
        if verdict is None:
            claims.add_row(*words, "", Text("no verdict", style="dim"))
        else:
            found = f"{number(verdict.estimate)} [{number(verdict.low)}, {number(verdict.high)}]"
            outcome = Text(verdict.outcome, style=STYLES[verdict.outcome])
            claims.add_row(*words, escape(found), outcome)
    console.print(claims)
    if finding.assumption:
        console.print(f"scope: {finding.scope}; {finding.assumption}")
    if finding.scale == "smoke":
        console.print("smoke scale checks the plumbing and gives no verdict")


def shown_metrics(finding: Finding, most: int = 5) -> list[str]:
    """The first few metrics that any arm returned, those that claims name first; all of them without claims."""
    returned = dict.fromkeys(name for found in finding.arms.values() for name in found.metrics)
    named = [name for name in returned if any(name in claim.predicate for claim in finding.claims)]
    return list(dict.fromkeys([*named, *returned]))[: most if finding.claims else None]


def print_rows(console: Console, rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> None:
    """A plain table of dictionaries."""
    table = Table(header_style="bold")
    names = list(columns)
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(row.get(name, "") if row.get(name) is not None else "")) for name in names))
    console.print(table)
