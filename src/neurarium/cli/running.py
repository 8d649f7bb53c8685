"""Running studies for a person: executor, store, progress, tables, saved results."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from neurarium.cli.progress import Live
from neurarium.cli.tables import console, print_finding
from neurarium.lab.errors import RequestError
from neurarium.lab.executors import Executor, Inline, Processes, RayCluster
from neurarium.lab.home import home
from neurarium.lab.registry import Entry
from neurarium.lab.results import documents, results_folder, save, summary, write_whole
from neurarium.lab.runner import Finding, Request, Silent, run_study
from neurarium.lab.store import Store
from neurarium.lab.study import Study


class Engine:
    """What a command needs to run studies.

    Args:
        jobs: trials at a time; None for one per core, 0 for this process.
        ray: None, "local" or a cluster's address.
        request: how to run.
        quiet: show nothing.
    """

    def __init__(self, jobs: int | None, ray: str | None, request: Request, quiet: bool) -> None:
        self.request = request
        check_device(request.device)
        self.quiet = quiet
        self.console = Console(stderr=True, quiet=quiet)
        self.store = Store(home() / "store.sqlite")
        self.executor = choose_executor(jobs, ray, request.threads)

    def run(self, entry: Entry, study: Study, sources: Sequence[Path] = ()) -> Finding:
        """Run one study with progress on standard error."""
        live = (
            Live(self.console, entry.slug, self.executor.jobs) if not self.quiet else contextlib.nullcontext(Silent())
        )
        with live as listener:
            return run_study(
                entry, study, self.request, executor=self.executor, store=self.store, listener=listener, sources=sources
            )


def check_device(name: str) -> None:
    """Make an empty tensor on the device.

    Raises:
        RequestError: torch has no such device here.
    """
    if name == "cpu":
        return
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError):
        found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise RequestError(f"no device {name!r} here: there is {', '.join(found)}") from None


def choose_executor(jobs: int | None, ray: str | None, threads: int) -> Executor:
    """The executor that the options ask for."""
    if ray is not None:
        if jobs is not None:
            raise RequestError("--jobs and --ray exclude each other: a cluster decides how many trials run")
        return RayCluster(None if ray == "local" else ray, threads)
    return Inline() if jobs == 0 else Processes(jobs, threads)


def run_all(engine: Engine, entries: Sequence[Entry]) -> list[Finding]:
    """Run studies one after another, a table after each; a study that cannot be imported stops before any has run."""
    loaded = [(entry, entry.load()) for entry in entries]
    for _, study in loaded:
        for arm in study.arms if not engine.request.arms else engine.request.arms:
            study.settings(arm, engine.request.scale, engine.request.overrides)
    findings = []
    for entry, study in loaded:
        finding = engine.run(entry, study)
        findings.append(finding)
        if not engine.quiet:
            print_finding(console(), finding)
    return findings


def write_results(findings: Sequence[Finding]) -> None:
    """Save whole findings, and refresh the tables generated from them."""
    for finding in findings:
        if finding.failed:
            continue
        save(finding)
    for path, text in documents(results_folder().parent).items():
        if path.read_text(encoding="utf-8") != text:
            write_whole(path, text)


def show_finding(finding: Finding, as_json: bool, site: Path | None) -> None:
    """Print one finding, and write its page where a folder is named."""
    if as_json:
        print(json.dumps(summary(finding), ensure_ascii=False, allow_nan=False))
    else:
        print_finding(console(), finding)
    if site is not None:
        from neurarium.lab.pages import finding_page, write_site

        index = write_site([finding_page(finding)], site)
        Console(stderr=True, quiet=as_json).print(f"report: {index}")
