"""From the store and the saved results to the pages of the site."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import neurarium
from neurarium.lab.claims import Verdict
from neurarium.lab.fingerprint import PACKAGE, closure, fingerprint
from neurarium.lab.registry import Entry, entries
from neurarium.lab.results import saved
from neurarium.lab.runner import Finding, judge
from neurarium.lab.site import ArmRow, ClaimRow, PaperPage, build_site
from neurarium.lab.store import Row, Store
from neurarium.lab.study import Study
from neurarium.lab.trial import Outcome, plain

_GROUND = ("neurarium.lab", "neurarium.studies", "neurarium.data", "neurarium.training")


def write_site(pages: Iterable[PaperPage], folder: Path) -> Path:
    """Write the static site and return its first page."""
    return build_site(list(pages), folder, version=neurarium.__version__)


def all_pages(store_path: Path) -> list[PaperPage]:
    """A page for every study: from the store where it was run here, else from the saved result, else bare."""
    results = saved()
    store = Store(store_path) if store_path.exists() else None
    pages = []
    for slug, entry in entries().items():
        finding = stored_finding(store, entry) if store is not None else None
        if finding is not None:
            pages.append(finding_page(finding))
        elif slug in results:
            pages.append(_saved_page(entry, results[slug]))
        else:
            pages.append(_bare_page(entry))
    if store is not None:
        store.close()
    return pages


def stored_finding(store: Store, entry: Entry) -> Finding | None:
    """The latest run of a study in the store, at the largest scale that gives a verdict; None if there is none."""
    for scale in ("paper", "small"):
        rows = store.study(entry.slug, scale)
        finding = _finding(entry, entry.load(), scale, rows) if rows else None
        if finding is not None:
            return finding
    return None


def _finding(entry: Entry, study: Study, scale: str, rows: Sequence[Row]) -> Finding | None:
    """The rows of the newest code and of the arms' own settings as a finding, if there are any."""
    settings = {arm: plain(study.settings(arm, scale)) for arm in study.arms}
    stored = {arm: json.loads(json.dumps(values)) for arm, values in settings.items()}
    rows = [row for row in rows if stored.get(row.arm) == row.settings]
    if not rows:
        return None
    code = rows[-1].fingerprint
    trials: dict[str, dict[int, Outcome]] = {arm: {} for arm in study.arms}
    for row in sorted(rows, key=lambda row: row.seed):
        if row.fingerprint == code:
            trials[row.arm][row.seed] = row.outcome
    trials = {arm: seeds for arm, seeds in trials.items() if seeds}
    seconds = sum(o.wall for seeds in trials.values() for o in seeds.values())
    return Finding(entry, study, scale, trials, settings, judge(study, scale, trials), seconds, code)


def finding_page(finding: Finding) -> PaperPage:
    """The page of a finding, curves included."""
    done = [o for seeds in finding.trials.values() for o in seeds.values() if o.status == "done"]
    return PaperPage(
        **_head(finding.entry, finding.study),
        claims=[
            _claim(claim.text, claim.source, str(claim.predicate), verdict)
            for claim, verdict in zip(finding.study.claims, finding.verdicts, strict=True)
        ],
        arms=[_arm(finding, arm) for arm in finding.trials],
        figures=list(finding.study.figures),
        curves={
            arm: {seed: o.curves for seed, o in seeds.items() if o.status == "done"}
            for arm, seeds in finding.trials.items()
        },
        environment=done[0].environment if done else {},
        scale=finding.scale,
        seconds_total=finding.seconds,
        fingerprint=finding.fingerprint,
        stale=bool(finding.entry.room) and finding.fingerprint != fingerprint([finding.entry.path]),
        failures=[(arm, seed, o.traceback.strip().splitlines()[-1]) for arm, seed, o in finding.failed],
    )


def _arm(finding: Finding, arm: str) -> ArmRow:
    outcomes = [o for o in finding.trials[arm].values() if o.status == "done"]
    metrics = {name: (ci.mean, ci.low, ci.high, ci.n) for name, ci in finding.intervals(arm).items()}
    seconds = sum(o.wall for o in outcomes) / len(outcomes) if outcomes else 0.0
    memory = max((o.peak_memory for o in outcomes), default=0) / 2**20
    return ArmRow(arm, finding.settings.get(arm, {}), metrics, seconds, memory)


def _claim(text: str, source: str, predicate: str, verdict: Verdict | None) -> ClaimRow:
    if verdict is None:
        return ClaimRow(text, source, predicate, None, None, None, None, None, ">", 0)
    return ClaimRow(
        text, source, predicate, verdict.outcome, verdict.estimate, verdict.low, verdict.high, verdict.margin,
        verdict.relation, verdict.n,
    )  # fmt: skip


def _head(entry: Entry, study: Study | None) -> dict[str, Any]:
    """What a page says before any number."""
    paper = study.paper if study is not None else entry.paper()
    first, _, rest = entry.docstring().partition("\n\n")
    return {
        "slug": entry.slug,
        "title": paper.title,
        "authors": paper.authors,
        "year": paper.year,
        "arxiv": paper.arxiv,
        "room": entry.room,
        "summary": " ".join(first.split()),
        "description": rest.strip(),
        "components": [
            (label.removeprefix("neurarium."), _source(path))
            for label, path in sorted(closure([entry.path]).items())
            if path.is_relative_to(PACKAGE) and not label.startswith(_GROUND)
        ],
        "code_url": _source(entry.path),
        "scope": study.scope if study is not None else "measured",
        "assumption": study.assumption if study is not None else "",
    }


def _source(path: Path) -> str:
    """A file: address of a source file, which opens beside a report that was written on the same machine."""
    return path.resolve().as_uri()


def _saved_page(entry: Entry, result: Mapping[str, Any]) -> PaperPage:
    """The page of a saved result: verdicts and intervals, no curves."""

    def interval(ci: Mapping[str, Any]) -> tuple[Any, Any, Any, int]:
        return ci["mean"], ci["low"], ci["high"], ci["n"]

    return PaperPage(
        **{**_head(entry, None), "scope": result["scope"], "assumption": result["assumption"]},
        claims=[
            ClaimRow(
                c["text"], c["source"], c["predicate"], c["verdict"], c["estimate"], c["low"], c["high"], c["margin"],
                c.get("relation", ">"), c["n"],
            )
            for c in result["claims"]
        ],
        arms=[
            ArmRow(
                arm, result["settings"][arm], {name: interval(ci) for name, ci in metrics.items()},
                result["arm_seconds"].get(arm, 0.0), result["peak_memory"] / 2**20,
            )
            for arm, metrics in result["arms"].items()
        ],
        figures=[],
        curves={},
        environment=result["environment"],
        scale=result["scale"],
        seconds_total=result["seconds"],
        fingerprint=result["fingerprint"],
        stale=result["fingerprint"] != fingerprint([entry.path]),
        failures=[],
    )  # fmt: skip


def _bare_page(entry: Entry) -> PaperPage:
    """The page of a study that was never run: its claims are read from the study."""
    study = entry.load()
    return PaperPage(
        **_head(entry, study),
        claims=[_claim(claim.text, claim.source, str(claim.predicate), None) for claim in study.claims],
        arms=[],
        figures=[],
        curves={},
        environment={},
        scale="small",
        seconds_total=0.0,
        fingerprint=fingerprint([entry.path]),
        stale=False,
        failures=[],
    )
