"""Findings in files: ``results/<slug>.json`` for people and tables, ``<slug>.curves.json.gz`` for seeds and figures."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from neurarium.data._files import write_whole
from neurarium.lab import figures
from neurarium.lab.claims import Interval, Verdict
from neurarium.lab.errors import RequestError
from neurarium.lab.finding import ArmFinding, Finding, Judged
from neurarium.lab.registry import Entry, entries
from neurarium.lab.study import Paper

PACKAGE = Path(__file__).resolve().parents[1]
CURVES = ".curves.json.gz"


def checkout() -> Path | None:
    """The checkout that this package is imported from; None where it is installed."""
    root = PACKAGE.parents[1]
    return root if (root / "pyproject.toml").is_file() and PACKAGE.parent.name == "src" else None


def results_folder() -> Path:
    """Where saved results are read from: beside the sources in a checkout, inside an installed package."""
    root = checkout()
    return root / "results" if root else PACKAGE / "results"


def writable_folder() -> Path:
    """Where results are written in a checkout.

    Raises:
        RequestError: this is an installed package, whose files are not ours to write.
    """
    root = checkout()
    if root is None:
        raise RequestError("--save writes into a checkout, and this neurarium is installed: name a folder (--save-to)")
    return root / "results"


def save(finding: Finding, folder: Path) -> Path:
    """Write a finding into a folder and return the path of its JSON file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{finding.entry.slug}.json"
    packed = json.dumps(_details(finding), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    write_whole(path.with_name(path.stem + CURVES), gzip.compress(packed.encode(), mtime=0))
    write_whole(path, json.dumps(summary(finding), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def load_finding(slug: str, folder: Path | None = None) -> Finding | None:
    """The saved finding of a study of the house, or None.

    Raises:
        RequestError: the files cannot be read.
    """
    path = (folder or results_folder()) / f"{slug}.json"
    if not path.is_file():
        return None
    beside = path.with_name(path.stem + CURVES)
    try:
        details = json.loads(gzip.decompress(beside.read_bytes())) if beside.is_file() else {}
        return from_summary(json.loads(path.read_text(encoding="utf-8")), details)
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise RequestError(f"the saved result {path} cannot be read: {type(error).__name__}: {error}") from error


def saved(folder: Path | None = None) -> dict[str, dict[str, Any]]:
    """Slug -> the JSON file of a saved result."""
    folder = folder or results_folder()
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def summary(finding: Finding) -> dict[str, Any]:
    """A finding as plain JSON values, without single seeds and curves: `neurarium run --json` prints it."""
    paper = finding.paper
    return {
        "study": finding.entry.slug,
        "scale": finding.scale,
        "arms": {
            arm: {name: _interval(ci) for name, ci in found.metrics.items()} for arm, found in finding.arms.items()
        },
        "claims": [_judged(claim) for claim in finding.claims],
        "seconds": finding.seconds,
        "title": paper.title,
        "authors": paper.authors,
        "year": paper.year,
        "arxiv": paper.arxiv,
        "room": finding.entry.room,
        "scope": finding.scope,
        "assumption": finding.assumption,
        "settings": {arm: dict(found.settings) for arm, found in finding.arms.items()},
        "seeds": {arm: list(found.seeds) for arm, found in finding.arms.items()},
        "arm_seconds": {arm: found.seconds for arm, found in finding.arms.items()},
        "arm_memory": {arm: found.peak_memory for arm, found in finding.arms.items()},
        "cpu_seconds": finding.cpu_seconds,
        "peak_memory": max((found.peak_memory for found in finding.arms.values()), default=0),
        "figures": [{"kind": type(figure).__name__, **_changed(figure)} for figure in finding.figures],
        "device": finding.device,
        "threads": finding.threads,
        "environment": dict(finding.environment),
        "fingerprint": finding.fingerprint,
        "date": finding.date,
    }


def from_summary(content: Mapping[str, Any], details: Mapping[str, Any]) -> Finding:
    """The finding that `summary` and the file beside it describe."""
    slug = content["study"]
    values, curves = details.get("metrics", {}), details.get("curves", [])
    return Finding(
        entry=entries().get(slug) or Entry(slug, content["room"], "", Path()),
        paper=Paper(content["title"], content["authors"], content["year"], content["arxiv"]),
        scale=content["scale"],
        device=content.get("device", "cpu"),
        threads=content.get("threads", 1),
        fingerprint=content["fingerprint"],
        scope=content["scope"],
        assumption=content["assumption"],
        claims=[
            Judged(c["text"], c["source"], c["predicate"], c.get("published", ""), _verdict(c))
            for c in content["claims"]
        ],
        arms={
            arm: ArmFinding(
                content["settings"][arm],
                {name: Interval(*_ends(ci["mean"], ci["low"], ci["high"]), ci["n"]) for name, ci in metrics.items()},
                tuple(content["seeds"][arm]),
                content["arm_seconds"][arm],
                content.get("arm_memory", {}).get(arm, content["peak_memory"]),
                {
                    int(seed): {name: math.nan if v is None else v for name, v in row.items()}
                    for seed, row in values.get(arm, {}).items()
                },
            )
            for arm, metrics in content["arms"].items()
        },
        figures=tuple(_figure(**written) for written in content.get("figures", ())),
        curves=[
            {arm: {int(seed): _rows(columns) for seed, columns in by_seed.items()} for arm, by_seed in figure.items()}
            for figure in curves
        ],
        seconds=content["seconds"],
        cpu_seconds=content["cpu_seconds"],
        environment=content["environment"],
        date=content["date"],
    )  # fmt: skip


def _details(finding: Finding) -> dict[str, Any]:
    """What is of single seeds: their metrics, and the thinned curves as columns."""
    return {
        "metrics": {
            arm: {seed: {name: _finite(v) for name, v in row.items()} for seed, row in found.values.items()}
            for arm, found in finding.arms.items()
        },
        "curves": [
            {arm: {seed: _columns(rows) for seed, rows in by_seed.items()} for arm, by_seed in figure.items()}
            for figure in finding.curves
        ],
    }


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}


def _rows(columns: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _figure(kind: str, **values: Any) -> figures.Figure:
    made: figures.Figure = getattr(figures, kind)(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    )
    return made


def _changed(figure: figures.Figure) -> dict[str, Any]:
    """The fields of a figure that are not their defaults."""
    kept = {f.name: getattr(figure, f.name) for f in fields(figure) if getattr(figure, f.name) != f.default}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}


def _judged(claim: Judged) -> dict[str, Any]:
    words = {"text": claim.text, "source": claim.source, "predicate": claim.predicate}
    if claim.published:
        words["published"] = claim.published
    if claim.verdict is None:
        return {**words, "verdict": None, "estimate": None, "low": None, "high": None, "margin": None, "n": 0}
    found = {name: _finite(v) if isinstance(v, float) else v for name, v in asdict(claim.verdict).items()}
    return {**words, "verdict": found.pop("outcome"), **found}


def _verdict(c: Mapping[str, Any]) -> Verdict | None:
    if c["verdict"] is None:
        return None
    return Verdict(
        c["verdict"], *_ends(c["estimate"], c["low"], c["high"]), c["n"], c["margin"], c.get("relation", ">")
    )


def _interval(ci: Interval) -> dict[str, Any]:
    return {name: _finite(v) if isinstance(v, float) else v for name, v in asdict(ci).items()}


def _ends(mean: float | None, low: float | None, high: float | None) -> tuple[float, float, float]:
    """A mean and its ends: an end that is not written has no bound, and without a mean nothing is known."""
    if mean is None:
        return math.nan, math.nan, math.nan
    return mean, -math.inf if low is None else low, math.inf if high is None else high


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
