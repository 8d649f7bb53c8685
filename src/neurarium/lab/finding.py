"""A finding: what a study's trials say. Plain data, which goes to files and comes back the same."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from neurarium.lab.claims import Claim, Interval, Verdict, interval
from neurarium.lab.errors import StudyError
from neurarium.lab.figures import Figure
from neurarium.lab.registry import Entry
from neurarium.lab.study import Paper, Study
from neurarium.lab.thinning import Drawn, drawn
from neurarium.lab.trial import Outcome

Trials = Mapping[str, Mapping[int, Outcome]]
"""arm -> seed -> outcome."""


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict.

    Args:
        text: the claim in one sentence.
        source: where the paper makes it.
        predicate: the test, as text.
        published: the paper's own number; empty where there is none.
        verdict: None where the claim's arms were not all run, or the scale gives no verdict.
    """

    text: str
    source: str
    predicate: str
    published: str = ""
    verdict: Verdict | None = None


@dataclass(frozen=True)
class ArmFinding:
    """An arm over its seeds.

    Args:
        settings: the fields of its settings at the scale.
        metrics: name -> mean over seeds with its 95 % interval.
        seeds: those that finished.
        seconds: of one trial, mean over seeds: of the processor, or on the clock where it ran on another device.
        peak_memory: bytes, the largest over seeds.
        values: seed -> metrics, where they were kept.
    """

    settings: Mapping[str, Any]
    metrics: Mapping[str, Interval]
    seeds: tuple[int, ...]
    seconds: float
    peak_memory: int
    values: Mapping[int, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """A study's trials and what they say.

    Args:
        entry: the study.
        paper: its paper.
        scale: the scale run at.
        device: torch device of all trials.
        threads: torch threads of each trial.
        fingerprint: of the code run.
        scope: of the verdicts.
        assumption: behind a scope of "mechanism".
        claims: in the study's order, each with its verdict.
        arms: name -> what was found, in the study's order.
        figures: what to draw.
        curves: per figure what it draws of the recorded rows, thinned.
        seconds: of all trials: of the processor, or on the clock where they ran on another device.
        cpu_seconds: summed processor seconds.
        environment: versions and machine.
        date: of the last trial, "2026-01-31".
        trials: every trial as it ended, failed ones included; empty in a finding that was read from a file.
    """

    entry: Entry
    paper: Paper
    scale: str
    device: str
    threads: int
    fingerprint: str
    scope: str = "measured"
    assumption: str = ""
    claims: Sequence[Judged] = ()
    arms: Mapping[str, ArmFinding] = field(default_factory=dict)
    figures: Sequence[Figure] = ()
    curves: Sequence[Drawn] = ()
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict)
    date: str = ""
    trials: Trials = field(default_factory=dict, compare=False)

    @property
    def verdicts(self) -> list[Verdict | None]:
        """One per claim, in order."""
        return [claim.verdict for claim in self.claims]

    @property
    def failed(self) -> list[tuple[str, int, Outcome]]:
        """Arm, seed and outcome of the trials that failed."""
        return [(a, s, o) for a, seeds in self.trials.items() for s, o in seeds.items() if o.status == "failed"]

    def intervals(self, arm: str) -> Mapping[str, Interval]:
        """Each metric's mean over seeds and its interval."""
        return self.arms[arm].metrics if arm in self.arms else {}


def judged(claim: Claim, verdict: Verdict | None = None) -> Judged:
    """A claim with its verdict, as plain data."""
    return Judged(claim.text, claim.source, str(claim.predicate), claim.published, verdict)


def unrun(entry: Entry, study: Study, code: str) -> Finding:
    """The finding of a study that was never run: its claims and figures, no numbers."""
    return Finding(
        entry, study.paper, "small", "cpu", 1, code, study.scope, study.assumption,
        claims=[judged(claim) for claim in study.claims], figures=tuple(study.figures),
    )  # fmt: skip


def finding_of(
    entry: Entry,
    study: Study,
    scale: str,
    settings: Mapping[str, Mapping[str, Any]],
    trials: Trials,
    *,
    fingerprint: str,
    device: str,
    threads: int,
) -> Finding:
    """What trials of one code on one device say.

    Raises:
        StudyError: a claim names a metric that the trial does not return.
    """
    done = [o for seeds in trials.values() for o in seeds.values() if o.status == "done"]
    curves = {a: {s: o.curves for s, o in seeds.items() if o.status == "done"} for a, seeds in trials.items()}
    return replace(
        unrun(entry, study, fingerprint),
        scale=scale,
        device=device,
        threads=threads,
        claims=[judged(c, v) for c, v in zip(study.claims, judge(entry, study, scale, trials), strict=True)],
        arms={arm: _arm(settings[arm], seeds, study.deterministic, device) for arm, seeds in trials.items()},
        curves=[drawn(figure, curves) for figure in study.figures],
        seconds=round(sum(_spent(o, device) for seeds in trials.values() for o in seeds.values()), 2),
        cpu_seconds=round(sum(o.cpu for o in done), 2),
        environment=dict(done[-1].environment) if done else {},
        date=time.strftime("%Y-%m-%d", time.localtime(max((o.finished for o in done), default=time.time()))),
        trials=trials,
    )


def _spent(outcome: Outcome, device: str) -> float:
    """Seconds of a trial. Those of the processor do not depend on what else the machine did."""
    return outcome.cpu if device == "cpu" else outcome.wall


def _arm(settings: Mapping[str, Any], seeds: Mapping[int, Outcome], deterministic: bool, device: str) -> ArmFinding:
    done = {seed: o for seed, o in sorted(seeds.items()) if o.status == "done"}
    names = dict.fromkeys(name for o in done.values() for name in o.metrics)
    metrics = {n: interval([o.metrics[n] for o in done.values() if n in o.metrics], deterministic) for n in names}
    seconds = sum(_spent(o, device) for o in done.values()) / len(done) if done else 0.0
    memory = max((o.peak_memory for o in done.values()), default=0)
    values = {seed: dict(o.metrics) for seed, o in done.items()}
    plain_settings = json.loads(json.dumps(settings))  # as they are in a file: lists, no tuples
    return ArmFinding(plain_settings, metrics, tuple(done), round(seconds, 3), memory, values)


def judge(entry: Entry, study: Study, scale: str, trials: Trials) -> list[Verdict | None]:
    """A verdict per claim; None where an arm was not run, and at smoke scale.

    Raises:
        StudyError: a claim names a metric that the trial does not return.
    """
    if scale == "smoke":
        return [None] * len(study.claims)
    table = {arm: {seed: o.metrics for seed, o in seeds.items() if o.status == "done"} for arm, seeds in trials.items()}
    found: list[Verdict | None] = []
    for claim in study.claims:
        try:
            judgeable = all(table.get(arm) for arm in claim.arms)
            found.append(claim.judge(table, study.deterministic) if judgeable else None)
        except KeyError as missing:
            raise StudyError(
                f"the study {entry.slug} is at fault: its claim {claim.text!r} needs the metric {missing}, which the "
                f"trial of {' or '.join(claim.arms)} does not return"
            ) from None
    return found
