"""From findings to the pages of the site."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable
from pathlib import Path

import neurarium
from neurarium.lab.archive import checkout, load_finding
from neurarium.lab.claims import Verdict
from neurarium.lab.docs import example_text, guides, paper_text
from neurarium.lab.finding import Finding, Judged, finding_of, unrun
from neurarium.lab.fingerprint import PACKAGE, closure, fingerprint
from neurarium.lab.reference import rooms
from neurarium.lab.registry import Entry, entries
from neurarium.lab.site import ArmRow, ClaimRow, PaperPage, build_site
from neurarium.lab.site.text import number
from neurarium.lab.store import Row, Store
from neurarium.lab.trial import Outcome, plain

_GROUND = ("neurarium.lab", "neurarium.studies", "neurarium.data", "neurarium.training")


def write_site(pages: Iterable[PaperPage], folder: Path) -> Path:
    """Write a site of these pages alone and return its first page."""
    return build_site(list(pages), folder, version=neurarium.__version__)


def write_whole_site(store_path: Path, folder: Path) -> Path:
    """Write the site of the house: all papers, the guides, the comparison, the reference; returns its first page."""
    return build_site(
        all_pages(store_path), folder, version=neurarium.__version__, guides=guides(), rooms=rooms(), sources=checkout()
    )


def all_pages(store_path: Path) -> list[PaperPage]:
    """A page for every study: of the whole run in the store, else of the saved result, else with its claims alone.

    A run of some arms only does not take the place of a saved result; its verdicts are shown beside those.
    """
    store = Store(store_path) if store_path.exists() else None
    try:
        pages = []
        for entry in entries().values():
            mine = stored_finding(store, entry) if store is not None else None
            kept = load_finding(entry.slug)
            if mine is not None and (kept is None or set(mine.arms) >= set(kept.arms)):
                pages.append(paper_page(mine))
            else:
                known = kept or unrun(entry, entry.load(), fingerprint([entry.path]))
                pages.append(paper_page(known, beside=mine))
        return pages
    finally:
        if store is not None:
            store.close()


def stored_finding(store: Store, entry: Entry) -> Finding | None:
    """The latest run of a study in the store, at the largest scale that gives a verdict; None if there is none.

    All its trials are of one code, device and number of threads: those of the trial that ended last.
    """
    for scale in ("paper", "small"):
        rows = store.study(entry.slug, scale)
        finding = _finding(entry, scale, rows) if rows else None
        if finding is not None:
            return finding
    return None


def _finding(entry: Entry, scale: str, rows: list[Row]) -> Finding | None:
    study = entry.load()
    settings = {arm: plain(study.settings(arm, scale)) for arm in study.arms}
    stored = {arm: json.loads(json.dumps(values)) for arm, values in settings.items()}
    rows = [row for row in rows if stored.get(row.arm) == row.settings]
    if not rows:
        return None
    last = rows[-1]
    trials: dict[str, dict[int, Outcome]] = {arm: {} for arm in study.arms}
    for row in sorted(rows, key=lambda row: row.seed):
        if (row.fingerprint, row.device, row.threads) == (last.fingerprint, last.device, last.threads):
            trials[row.arm][row.seed] = row.outcome
    trials = {arm: seeds for arm, seeds in trials.items() if seeds}
    return finding_of(
        entry, study, scale, settings, trials,
        fingerprint=last.fingerprint, device=last.device, threads=last.threads,
    )  # fmt: skip


def paper_page(finding: Finding, beside: Finding | None = None) -> PaperPage:
    """The page of a finding, wherever it comes from; the verdicts of another one of the same study beside its own."""
    others = {claim.text: claim for claim in beside.claims} if beside is not None else {}
    entry, paper = finding.entry, finding.paper
    text = paper_text(entry.slug) if entry.room else None
    first, _, rest = (entry.docstring() if entry.path.is_file() else "").partition("\n\n")
    return PaperPage(
        slug=entry.slug,
        title=paper.title,
        authors=paper.authors,
        year=paper.year,
        arxiv=paper.arxiv,
        room=entry.room,
        summary=" ".join(first.split()),
        description=rest.strip(),
        claims=[_claim(claim, others.get(claim.text)) for claim in finding.claims],
        arms=[
            ArmRow(
                arm, found.settings, {name: (ci.mean, ci.low, ci.high, ci.n) for name, ci in found.metrics.items()},
                found.seconds, found.peak_memory / 2**20,
            )
            for arm, found in finding.arms.items()
        ],
        figures=list(finding.figures),
        curves=list(finding.curves),
        environment=_machine(finding),
        components=components(entry),
        code_url=_source(entry.path),
        scale=finding.scale,
        scope=finding.scope,
        assumption=finding.assumption,
        seconds_total=finding.seconds,
        fingerprint=finding.fingerprint,
        stale=bool(entry.room and finding.arms) and finding.fingerprint != fingerprint([entry.path]),
        failures=[(arm, seed, o.traceback.strip().splitlines()[-1]) for arm, seed, o in finding.failed],
        use=text.use if text else "",
        found=text.found if text else "",
        example=example_text(entry.slug) if entry.room else "",
        names=imported(entry) if entry.room else (),
    )  # fmt: skip


def _machine(finding: Finding) -> dict[str, str]:
    if not finding.arms:
        return {}
    return {"device": finding.device, "threads": str(finding.threads), **finding.environment, "date": finding.date}


def _claim(claim: Judged, other: Judged | None) -> ClaimRow:
    words, v = (claim.text, claim.source, claim.predicate), claim.verdict
    if v is None:
        return ClaimRow(*words, None, None, None, None, None, ">", 0, claim.published)
    here = _told(other.verdict) if other is not None and other.verdict is not None else ""
    return ClaimRow(*words, v.outcome, v.estimate, v.low, v.high, v.margin, v.relation, v.n, claim.published, here)


def _told(verdict: Verdict) -> str:
    ends = f"{number(verdict.low)} to {number(verdict.high)}"
    return f"{verdict.outcome}, {number(verdict.estimate)} ({ends}, {verdict.n} seed{'' if verdict.n == 1 else 's'})"


def components(entry: Entry) -> list[tuple[str, str]]:
    """Modules of the rooms that the study stands on, each with the address of its source."""
    if not entry.path.is_file():
        return []
    return [
        (label.removeprefix("neurarium."), _source(path))
        for label, path in sorted(closure([entry.path]).items())
        if path.is_relative_to(PACKAGE) and not label.startswith(_GROUND)
    ]


def imported(entry: Entry) -> list[tuple[str, str]]:
    """(room, name) of the components that the study's file imports."""
    found = []
    for node in ast.walk(ast.parse(entry.path.read_text(encoding="utf-8"))):
        module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
        if isinstance(node, ast.ImportFrom) and module.startswith("neurarium.") and not module.startswith(_GROUND):
            found += [(module.removeprefix("neurarium."), alias.name) for alias in node.names]
    return [(room, name) for room, name in found if room]


def _source(path: Path) -> str:
    """A file: address of a source file, which opens beside a report that was written on the same machine."""
    return path.resolve().as_uri()
