"""Running studies: plan, skip what the store has, run, store, judge; more seeds while a claim is undecided."""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from neurarium.lab.claims import Claim
from neurarium.lab.errors import RequestError, StudyError
from neurarium.lab.executors import Executor
from neurarium.lab.finding import Finding, finding_of, judge
from neurarium.lab.fingerprint import fingerprint
from neurarium.lab.registry import Entry
from neurarium.lab.store import Store
from neurarium.lab.study import Study, closest
from neurarium.lab.trial import Outcome, Task, address, plain


@dataclass(frozen=True)
class Request:
    """How a study is to be run.

    Args:
        scale: name of the scale.
        seeds: a fixed number of seeds; None for the study's own, with more while a claim is undecided.
        arms: only these arms; empty for all.
        overrides: settings as text, for every arm.
        fresh: run again what the store has.
        device: torch device.
        threads: torch threads of each trial.
        keep: folder for artifacts; None to keep none.
    """

    scale: str = "small"
    seeds: int | None = None
    arms: Sequence[str] = ()
    overrides: Mapping[str, str] = field(default_factory=dict)
    fresh: bool = False
    device: str = "cpu"
    threads: int = 1
    keep: Path | None = None

    def __post_init__(self) -> None:
        if self.seeds is not None and self.seeds < 1:
            raise RequestError(f"seeds must be at least 1, not {self.seeds}")
        if self.threads < 1:
            raise RequestError(f"threads must be at least 1, not {self.threads}")


class Listener(Protocol):
    """Told what happens while a study runs."""

    def planned(self, study: str, tasks: Sequence[Task], cached: int) -> None:
        """Tasks of a study that will be run, and how many were found in the store."""

    def progress(self, task: Task, what: str, done: int, total: int) -> None:
        """A running task's state."""

    def finished(self, task: Task, outcome: Outcome) -> None:
        """A task ended; it is in the store."""


class Silent:
    """A listener that does nothing."""

    def planned(self, study: str, tasks: Sequence[Task], cached: int) -> None:
        """Ignore."""

    def progress(self, task: Task, what: str, done: int, total: int) -> None:
        """Ignore."""

    def finished(self, task: Task, outcome: Outcome) -> None:
        """Ignore."""


@dataclass(frozen=True)
class Job:
    """A study to be run, with further files whose code its trials depend on (a user's model)."""

    entry: Entry
    study: Study
    sources: Sequence[Path] = ()


def run_study(
    entry: Entry,
    study: Study,
    request: Request,
    *,
    executor: Executor,
    store: Store,
    listener: Listener | None = None,
    sources: Sequence[Path] = (),
) -> Finding:
    """Run what the store lacks of one study, and judge its claims.

    Args:
        entry: where the study is.
        study: its definition.
        request: how to run it.
        executor: where trials run.
        store: what is there already and where results go.
        listener: told what happens.
        sources: further files whose code the trial depends on (a user's model).

    Raises:
        RequestError: an arm, setting or scale does not exist.
        StudyError: a claim names a metric that the trial does not return.
    """
    job = Job(entry, study, sources)
    (finding,) = run_studies([job], request, executor=executor, store=store, listener=listener)
    return finding


def run_studies(
    jobs: Sequence[Job], request: Request, *, executor: Executor, store: Store, listener: Listener | None = None
) -> Iterator[Finding]:
    """Run what the store lacks of several studies in one queue; yields each study's finding as its last trial ends.

    The seeds that an undecided claim asks for go to the head of the queue, so that no core waits for the last trial of
    a study, and no study for the others.

    Raises:
        RequestError: an arm, setting or scale does not exist; nothing is run then.
        StudyError: a claim names a metric that the trial does not return; the other studies are run before.
    """
    listener = listener or Silent()
    queue: deque[Task] = deque()
    owners: dict[str, _Plan] = {}
    faults: list[StudyError] = []

    def ended(plan: _Plan, front: bool) -> Iterator[Finding]:
        """After the last task of a look: put those of the next into the queue, or give the finding."""
        try:
            tasks = _missing(plan, request, store, listener)
            plan.pending = len(tasks)
            owners.update(dict.fromkeys((task.key for task in tasks), plan))
            (queue.extendleft(reversed(tasks)) if front else queue.extend(tasks))
            if not tasks:
                yield plan.finding()
        except StudyError as fault:
            faults.append(fault)

    for plan in [_Plan(job, request) for job in jobs]:
        yield from ended(plan, front=False)
    for task, outcome in executor.run(queue, listener.progress):
        plan = owners.pop(task.key)
        store.put(task, outcome)
        plan.trials[task.arm][task.seed] = outcome
        plan.pending -= 1
        listener.finished(task, outcome)
        if not plan.pending:
            yield from ended(plan, front=True)
    if faults:
        raise faults[0]


class _Plan:
    """One study on its way: what is done, and which tasks come next."""

    def __init__(self, job: Job, request: Request) -> None:
        self.job = job
        self.request = request
        study = job.study
        self.code = fingerprint([job.entry.path, *job.sources])
        arms = [closest(arm, study.arms, "arm") for arm in request.arms] or list(study.arms)
        self.settings = {arm: plain(study.settings(arm, request.scale, request.overrides)) for arm in arms}
        self.trials: dict[str, dict[int, Outcome]] = {arm: {} for arm in arms}
        self.wanted = set(arms)
        self.count, self.cap = looks(study, request)
        self.begun = False
        self.pending = 0

    def look(self) -> list[Task]:
        """The tasks of the next look: first all arms; then, seed by seed, those of the claims still undecided."""
        if self.begun:
            undecided = self.undecided()
            failed = any(o.status == "failed" for seeds in self.trials.values() for o in seeds.values())
            if self.count >= self.cap or failed or not undecided:
                return []
            self.wanted = {arm for claim in undecided for arm in claim.arms}
            self.count = min(self.cap, math.ceil(self.count * 1.6))
        self.begun = True
        return [
            _task(self.job.entry, self.job.study, arm, seed, self.settings[arm], self.code, self.request)
            for seed in range(self.count)
            for arm in self.trials
            if arm in self.wanted and seed not in self.trials[arm]
        ]

    def undecided(self) -> list[Claim]:
        """Claims whose verdict more seeds could settle."""
        study = self.job.study
        verdicts = judge(self.job.entry, study, self.request.scale, self.trials)
        return [c for c, v in zip(study.claims, verdicts, strict=True) if v is not None and v.outcome == "undecided"]

    def finding(self) -> Finding:
        """What the trials say."""
        return finding_of(
            self.job.entry, self.job.study, self.request.scale, self.settings, self.trials,
            fingerprint=self.code, device=self.request.device, threads=self.request.threads,
        )  # fmt: skip


def _missing(plan: _Plan, request: Request, store: Store, listener: Listener) -> list[Task]:
    """The tasks of the plan's next look that the store lacks; looks that it has whole are passed."""
    while tasks := plan.look():
        missing = []
        for task in tasks:
            known = None if request.fresh else store.get(task.key)
            if known is not None and known.status == "done":
                plan.trials[task.arm][task.seed] = known
            else:
                missing.append(task)
        listener.planned(plan.job.entry.slug, missing, len(tasks) - len(missing))
        if missing:
            return missing
    return []


def looks(study: Study, request: Request) -> tuple[int, int]:
    """How many seeds are run first, and how many at most."""
    if study.deterministic or (request.scale == "smoke" and request.seeds is None):
        return 1, 1
    if request.seeds is not None:
        return request.seeds, request.seeds
    return study.seeds


def _task(
    entry: Entry, study: Study, arm: str, seed: int, settings: dict[str, object], code: str, request: Request
) -> Task:
    folder = str(request.keep / entry.slug / f"{arm}-{seed}") if request.keep else ""
    return Task(
        study=entry.slug,
        trial=address(study.arm(arm).trial, entry.source),
        kind=address(type(study.arm(arm).settings), entry.source),
        arm=arm,
        seed=seed,
        scale=request.scale,
        settings=settings,
        fingerprint=code,
        device=request.device,
        threads=request.threads,
        folder=folder,
        path=tuple(path for path in sys.path if path),
    )
