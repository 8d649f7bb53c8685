"""``neurarium compare`` over ideas: what is asked for, and the table for a person."""

from __future__ import annotations

import json
import math
import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from neurarium.cli.progress import Live
from neurarium.cli.tables import console, number, spread
from neurarium.lab.archive import summary
from neurarium.lab.claims import Interval
from neurarium.lab.errors import RequestError
from neurarium.lab.runner import Silent
from neurarium.recipes import find
from neurarium.studies.compare import COSTS, Comparison, compare

HEADS = {
    "accuracy": "accuracy", "r2": "R²", "rmse": "RMSE", "log_loss": "log-loss", "calibration_error": "ECE",
    "training_seconds": "train s", "prediction_ms": "predict ms", "bytes": "kept", "step_bytes": "step memory",
    "nonzero": "weights", "flops": "FLOPs",
}  # fmt: skip


def compare_ideas(quiet: bool, **words: Any) -> Comparison:
    """Run the comparison with progress on standard error."""
    with nullcontext(Silent()) if quiet else Live(Console(stderr=True), "compare") as listener:
        return compare(**words, listener=listener)


def show_comparison(found: Comparison, as_json: bool, site: Path | None) -> None:
    """Print it, and write its page where a folder is named."""
    if as_json:
        print(json.dumps(as_values(found), ensure_ascii=False, allow_nan=False))
    else:
        print_comparison(console(), found)
    if site is not None:
        from neurarium.lab.pages import paper_page, write_site

        index = write_site([replace(paper_page(found.finding), **page_text(found))], site)
        Console(stderr=True, quiet=as_json).print(f"report: {index}")


def page_text(found: Comparison) -> dict[str, Any]:
    """What the page says in words: who is best, a sentence for each idea, and who is not in the table and why."""
    best = found.best()
    score = number(found.finding.arms[best].metrics[found.metric].mean)
    ideas = {slug: text for slug, text in found.about.items() if slug in found.finding.arms}
    return {
        "summary": f"{len(found.finding.arms)} arms on test examples that nothing was chosen on; {best} has the best "
        f"{found.metric.replace('r2', 'R²')}, {score}.",
        "description": "\n\n".join(
            [f"{slug} · {text}" for slug, text in ideas.items()]
            + [f"{slug} was dropped in {when}." for slug, when in found.dropped.items()]
            + [f"{slug} was left out: {why}." for slug, why in found.left_out.items()]
        ),
    }


def as_values(found: Comparison) -> dict[str, Any]:
    """A comparison as plain JSON values."""
    draws = {
        arm: {"knobs": dict(t.knobs), "score": finite(t.score), "default_score": finite(t.default_score)}
        for arm, t in found.tuned.items()
    }
    return {
        **summary(found.finding),
        "metric": found.metric,
        "ranking": found.ranking(),
        "pareto": {cost: found.pareto(cost) for cost in COSTS},
        "left_out": dict(found.left_out),
        "dropped": dict(found.dropped),
        "tuned": draws,
        "about": dict(found.about),
        "notes": dict(found.notes),
    }


def finite(score: float) -> float | None:
    """A number for JSON."""
    return score if math.isfinite(score) else None


def print_comparison(console: Console, found: Comparison) -> None:
    """The arms from best to worst with scores and costs, then what was tuned, dropped and left out."""
    finding = found.finding
    names = [name for name in HEADS if any(name in arm.metrics for arm in finding.arms.values())]
    table = Table(title=escape(finding.paper.title), title_justify="left", header_style="bold")
    table.add_column("idea", no_wrap=True)
    for name in names:
        table.add_column(HEADS[name], justify="right", no_wrap=True)
    fronts = {cost: found.pareto(cost) for cost in COSTS}
    for arm in found.ranking():
        metrics = finding.arms[arm].metrics
        cells = []
        for name in names:
            cell = shown(name, metrics[name]) if name in metrics else ""
            best = name in COSTS and arm in fronts[name]
            cells.append(Text(cell + (" *" if best else "  " if name in COSTS else ""), style="green" if best else ""))
        is_reference = find(arm.partition(" ")[0]).traits.role == "reference"
        table.add_row(Text(arm, style="cyan" if is_reference else ""), *cells)
    console.print(table)
    seeds = max((len(arm.seeds) for arm in finding.arms.values()), default=0)
    console.print(
        f"test examples, {seeds} seed(s); references in colour; * no arm is both cheaper in this and better",
        style="dim",
    )
    for arm, draw in found.tuned.items():
        if draw.changed:
            values = ", ".join(f"{k}={number(v) if isinstance(v, float) else v}" for k, v in draw.knobs.items())
            gain = f"validation {number(draw.default_score)} → {number(draw.score)}"
            console.print(f"tuned {arm}: {values} ({gain}, {draw.draws} draws)", markup=False, highlight=False)
        else:
            console.print(f"tuned {arm}: none of {draw.draws} draws beat the defaults", markup=False, highlight=False)
    for slug, when in found.dropped.items():
        console.print(f"dropped {slug}: {when}", markup=False, highlight=False)
    for slug, why in found.left_out.items():
        console.print(f"left out {slug}: {why}", markup=False, highlight=False)


def shown(name: str, ci: Interval) -> str:
    """A metric in the units that people read: bytes by thousands, scores with their interval."""
    if name in ("bytes", "step_bytes"):
        return size(ci.mean)
    if name in ("accuracy", "r2"):
        half = (ci.high - ci.low) / 2
        return f"{ci.mean:.3f}" + (f" ± {half:.3f}" if ci.n > 1 and math.isfinite(half) else "")
    if name in ("nonzero", "flops"):
        return f"{ci.mean:,.0f}"
    return number(ci.mean) if name in COSTS or name in ("log_loss", "calibration_error") else spread(ci)


def size(count: float) -> str:
    """Bytes in kB or MB."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def seconds_in(text: str) -> float:
    """``"10m"``, ``"90s"``, ``"1h30m"`` or a number of seconds.

    Raises:
        RequestError: it is none of these.
    """
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    found = (
        sum(float(part or 0) * unit for part, unit in zip(match.groups(), (3600, 60, 1), strict=True)) if match else 0
    )
    if not found > 0:
        raise RequestError(f"--budget must be a time like 10m, 90s or 1h, not {text!r}")
    return found
