"""Running a study: plan, skip what the store has, run, store, judge; more seeds while a claim is undecided."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from neurarium.lab.claims import Claim, Interval, Verdict, interval
from neurarium.lab.errors import RequestError
from neurarium.lab.executors import Executor
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


@dataclass(frozen=True)
class Finding:
    """A study's trials and what they say.

    Args:
        entry: the study run.
        study: its definition.
        scale: the scale run at.
        trials: arm -> seed -> outcome, failed ones included.
        tasks: the settings behind each arm.
        verdicts: one per claim, in order; None where the claim's arms were not all run or the scale gives no verdict.
        seconds: summed wall seconds of the trials.
        fingerprint: of the code run.
    """

    entry: Entry
    study: Study
    scale: str
    trials: dict[str, dict[int, Outcome]]
    settings: dict[str, dict[str, object]]
    verdicts: list[Verdict | None]
    seconds: float
    fingerprint: str

    @property
    def failed(self) -> list[tuple[str, int, Outcome]]:
        """Arm, seed and outcome of the trials that failed."""
        return [(a, s, o) for a, seeds in self.trials.items() for s, o in seeds.items() if o.status == "failed"]

    def intervals(self, arm: str) -> dict[str, Interval]:
        """Each metric's mean over seeds and its interval."""
        done = [o for o in self.trials.get(arm, {}).values() if o.status == "done"]
        names = dict.fromkeys(name for o in done for name in o.metrics)
        return {
            name: interval([o.metrics[name] for o in done if name in o.metrics], self.study.deterministic)
            for name in names
        }


class Listener(Protocol):
    """Told what happens while a study runs."""

    def planned(self, tasks: Sequence[Task], cached: int) -> None:
        """Tasks that will be run now, and how many were found in the store."""

    def progress(self, task: Task, what: str, done: int, total: int) -> None:
        """A running task's state."""

    def finished(self, task: Task, outcome: Outcome) -> None:
        """A task ended; it is in the store."""


class Silent:
    """A listener that does nothing."""

    def planned(self, tasks: Sequence[Task], cached: int) -> None:
        """Ignore."""

    def progress(self, task: Task, what: str, done: int, total: int) -> None:
        """Ignore."""

    def finished(self, task: Task, outcome: Outcome) -> None:
        """Ignore."""


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
    """Run what the store lacks of a study, and judge its claims.

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
    """
    code = fingerprint([entry.path, *sources])
    arms = [closest(arm, study.arms, "arm") for arm in request.arms] or list(study.arms)
    settings = {arm: plain(study.settings(arm, request.scale, request.overrides)) for arm in arms}
    first, cap = looks(study, request)
    trials: dict[str, dict[int, Outcome]] = {arm: {} for arm in arms}
    listener = listener or Silent()
    wanted, count = set(arms), first
    while True:
        tasks = [
            _task(entry, study, arm, seed, settings[arm], code, request)
            for seed in range(count)
            for arm in arms
            if arm in wanted and seed not in trials[arm]
        ]
        _run_missing(tasks, request, executor, store, listener, trials)
        verdicts = judge(study, request.scale, trials)
        undecided = [
            claim for claim, verdict in zip(study.claims, verdicts, strict=True)
            if verdict is not None and verdict.outcome == "undecided"
        ]  # fmt: skip
        failed = any(o.status == "failed" for seeds in trials.values() for o in seeds.values())
        if count >= cap or not undecided or failed:
            break
        wanted = {arm for claim in undecided for arm in claim.arms}
        count = min(cap, math.ceil(count * 1.6))
    seconds = sum(o.wall for seeds in trials.values() for o in seeds.values())
    return Finding(entry, study, request.scale, trials, settings, verdicts, seconds, code)


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


def _run_missing(
    tasks: Sequence[Task],
    request: Request,
    executor: Executor,
    store: Store,
    listener: Listener,
    trials: dict[str, dict[int, Outcome]],
) -> None:
    missing = []
    for task in tasks:
        known = None if request.fresh else store.get(task.key)
        if known is not None and known.status == "done":
            trials[task.arm][task.seed] = known
        else:
            missing.append(task)
    listener.planned(missing, len(tasks) - len(missing))
    for task, outcome in executor.run(missing, listener.progress):
        store.put(task, outcome)
        trials[task.arm][task.seed] = outcome
        listener.finished(task, outcome)


def judge(study: Study, scale: str, trials: Mapping[str, Mapping[int, Outcome]]) -> list[Verdict | None]:
    """A verdict per claim; None where an arm was not run, and at smoke scale."""
    if scale == "smoke":
        return [None] * len(study.claims)
    table = {arm: {seed: o.metrics for seed, o in seeds.items() if o.status == "done"} for arm, seeds in trials.items()}
    return [_judge_claim(claim, study, table) for claim in study.claims]


def _judge_claim(claim: Claim, study: Study, table: Mapping[str, Mapping[int, Mapping[str, float]]]) -> Verdict | None:
    if any(not table.get(arm) for arm in claim.arms):
        return None
    try:
        return claim.judge(table, study.deterministic)
    except KeyError as missing:
        raise RequestError(
            f"the claim {claim.text!r} needs the metric {missing}, which the trial of "
            f"{' or '.join(claim.arms)} did not return"
        ) from None
