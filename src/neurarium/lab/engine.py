"""Running studies from Python: ``lab.run("ewc")``, and the engine behind it that the commands share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from neurarium.lab.errors import RequestError, TrialFailed
from neurarium.lab.executors import Executor, Inline, Processes, RayCluster
from neurarium.lab.finding import Finding
from neurarium.lab.home import home
from neurarium.lab.registry import Entry, find
from neurarium.lab.runner import Job, Listener, Request, run_studies
from neurarium.lab.store import Store
from neurarium.lab.study import Study


def run(
    study: str,
    *,
    scale: str = "small",
    seeds: int | None = None,
    arms: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    jobs: int | None = None,
    ray: str | None = None,
    device: str = "cpu",
    threads: int = 1,
    fresh: bool = False,
) -> Finding:
    """Run a study as ``neurarium run`` does, and return what it found.

    What the store has is not run again.

    Args:
        study: a slug, or the path of a study file.
        scale: ``smoke`` (seconds, no verdict), ``small`` or ``paper``.
        seeds: a fixed number of seeds; None for the study's own, with more while a claim is undecided.
        arms: only these arms; empty for all.
        settings: settings changed in every arm.
        jobs: trials at a time; None for one per core, 0 for this process.
        ray: run on Ray: ``local``, ``auto`` or a cluster's address.
        device: torch device of every trial.
        threads: torch threads of each trial.
        fresh: run again what the store has.

    Raises:
        RequestError: the study, an arm, a setting, a scale or the device does not exist.
        TrialFailed: a trial failed; its traceback is in the message.

    Example:
        >>> from neurarium import lab
        >>> finding = lab.run("linear-path", scale="smoke", jobs=0)
        >>> sorted(finding.arms)[:1]
        ['cnn']
    """
    changes = {name: str(value) for name, value in (settings or {}).items()}
    request = Request(scale, seeds, tuple(arms), changes, fresh, device, threads)
    entry = find(study)
    (finding,) = Engine(request, jobs, ray).run([Job(entry, entry.load())])
    if finding.failed:
        arm, seed, outcome = finding.failed[0]
        raise TrialFailed(f"{len(finding.failed)} trial(s) failed; {arm}, seed {seed}:\n{outcome.traceback}")
    return finding


class Engine:
    """A request with an executor and the store of `home`.

    Args:
        request: how to run.
        jobs: trials at a time; None for one per core, 0 for this process.
        ray: None, "local", "auto" or a cluster's address.
        listener: told what happens.

    Raises:
        RequestError: the device does not exist, the store cannot be used, or the executor cannot be had.
    """

    def __init__(
        self, request: Request, jobs: int | None = None, ray: str | None = None, listener: Listener | None = None
    ) -> None:
        check_device(request.device)
        self.request = request
        self.listener = listener
        self.store = Store(store_path())
        self.executor = choose_executor(jobs, ray, request.threads)

    def run(self, jobs: Sequence[Job]) -> Iterator[Finding]:
        """Run studies in one queue; each finding comes as its last trial ends."""
        return run_studies(
            jobs, self.request, executor=self.executor, store=self.store, listener=self.listener
        )  # fmt: skip


def load_jobs(entries: Sequence[Entry], request: Request) -> list[Job]:
    """The studies imported, each once; a wrong arm, setting or scale is found before any has run.

    Raises:
        RequestError: a study cannot be imported, or does not have what the request names.
    """
    jobs = [Job(entry, entry.load()) for entry in dict.fromkeys(entries)]
    for job in jobs:
        _check(job.study, request)
    return jobs


def _check(study: Study, request: Request) -> None:
    for arm in request.arms or study.arms:
        study.settings(arm, request.scale, request.overrides)


def store_path() -> Path:
    """The store's file."""
    return home() / "store.sqlite"


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
