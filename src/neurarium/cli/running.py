"""Running studies for a person: progress, tables, saved results."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from rich.console import Console

from neurarium.cli.progress import Live
from neurarium.cli.tables import console, print_finding
from neurarium.data._files import write_whole
from neurarium.lab.archive import save, saved, summary, writable_folder
from neurarium.lab.engine import Engine, load_jobs
from neurarium.lab.finding import Finding
from neurarium.lab.registry import Entry, entries
from neurarium.lab.results import documents, is_stale
from neurarium.lab.runner import Job, Listener, Request, Silent

Keep = Callable[[Finding], object]


def run_studies(
    chosen: Sequence[Entry], request: Request, jobs: int | None, ray: str | None, *, quiet: bool, keep: Keep | None
) -> list[Finding]:
    """Run studies in one queue: a table after each, saved as soon as it is there. In the order asked for."""
    work = load_jobs(chosen, request)
    findings = {}
    with _listener(work, quiet) as listener:
        for finding in Engine(request, jobs, ray, listener).run(work):
            findings[finding.entry] = finding
            if keep is not None and not finding.failed:
                keep(finding)
            if not quiet:
                print_finding(console(), finding)
    return [findings[job.entry] for job in work if job.entry in findings]


def run_one(work: Job, request: Request, jobs: int | None, ray: str | None, *, quiet: bool) -> Finding:
    """Run one study that was made on the fly."""
    with _listener([work], quiet) as listener:
        (finding,) = Engine(request, jobs, ray, listener).run([work])
    return finding


def _listener(work: Sequence[Job], quiet: bool) -> AbstractContextManager[Listener]:
    if quiet:
        return contextlib.nullcontext(Silent())
    title = work[0].entry.slug if len(work) == 1 else f"{len(work)} studies"
    return Live(Console(stderr=True), title)


def stale_entries() -> list[Entry]:
    """The studies of the house whose saved result is of earlier code."""
    results = saved()
    return [entry for slug, entry in entries().items() if slug in results and is_stale(results[slug], entry)]


def saver(in_checkout: bool, folder: Path | None) -> Keep | None:
    """What keeps a finding: in the checkout's results, with the tables made from them, or in a folder.

    Raises:
        RequestError: there is no checkout.
    """
    if folder is not None:
        return lambda finding: save(finding, folder)
    if not in_checkout:
        return None
    results = writable_folder()

    def keep(finding: Finding) -> None:
        save(finding, results)
        for path, text in documents(results.parent).items():
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                write_whole(path, text)

    return keep


def show_finding(finding: Finding, as_json: bool, site: Path | None) -> None:
    """Print one finding, and write its page where a folder is named."""
    if as_json:
        print(json.dumps(summary(finding), ensure_ascii=False, allow_nan=False))
    else:
        print_finding(console(), finding)
    if site is not None:
        from neurarium.lab.pages import paper_page, write_site

        index = write_site([paper_page(finding)], site)
        Console(stderr=True, quiet=as_json).print(f"report: {index}")
