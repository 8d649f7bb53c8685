"""Spending a fixed budget on many ideas: successive halving on validation examples (Jamieson and Talwalkar, 2016).

All ideas train a little, the best third three times as long, and so on, until a few finalists are left. How long is
worked out beforehand, from the size of the network and the batch and not from a clock, so that an interrupted
comparison ends in the same table as one that was left alone. A training that takes ten times as long as was reckoned
with is cut.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from neurarium.lab import Paper, Study
from neurarium.lab.engine import Engine
from neurarium.lab.finding import ArmFinding
from neurarium.lab.registry import Entry
from neurarium.lab.runner import Job
from neurarium.recipes import Problem
from neurarium.studies.idea import Settings, validate

SHARE = 3
"""One idea in three goes on, with three times the steps."""
FINALISTS = 4
FEWEST_STEPS = 30
_STEP_SECONDS = 4e-4  # of a step whatever its size
_FLOPS_PER_SECOND = 2e10  # of one core in small matrix products
_AVERAGE_COST = 2.5  # an idea's step in steps of backpropagation
_PATIENCE = 10.0  # times what was reckoned with


@dataclass(frozen=True)
class Rung:
    """A round: so many ideas train so many steps each."""

    ideas: int
    steps: int


@dataclass(frozen=True)
class Ladder:
    """All rounds, the steps of the finals, and the seconds at which a training of a step count is cut."""

    rungs: tuple[Rung, ...]
    final_steps: int
    step_seconds: float

    def limit(self, steps: int) -> float:
        """Seconds that a training of so many steps may take."""
        return max(5.0, _PATIENCE * _AVERAGE_COST * self.step_seconds * steps)


def ladder(problem: Problem, ideas: int, references: int, seeds: int, seconds: float, workers: int) -> Ladder:
    """How to spend the seconds of so many workers on ideas, of which a few reach the finals beside the references."""
    counts = [ideas]
    while counts[-1] > FINALISTS:
        counts.append(max(FINALISTS, math.ceil(counts[-1] / SHARE)))
    *rounds, finalists = counts
    step = step_seconds(problem)
    affordable = seconds * workers / (step * _AVERAGE_COST)
    lengths = [SHARE**number for number in range(len(counts))]
    units = sum(n * length for n, length in zip(rounds, lengths, strict=False))
    units += seeds * (finalists + references) * lengths[-1]
    longest = min(problem.steps, max(FEWEST_STEPS, int(affordable / units * lengths[-1])))
    steps = [max(FEWEST_STEPS, longest * length // lengths[-1]) for length in lengths]
    return Ladder(tuple(Rung(n, s) for n, s in zip(rounds, steps, strict=False)), longest, step)


def step_seconds(problem: Problem) -> float:
    """Seconds of a step of backpropagation, reckoned from the network's size."""
    parameters = sum(p.numel() for p in problem.make_model(0).parameters())
    return _STEP_SECONDS + 6 * parameters * problem.batch_size / _FLOPS_PER_SECOND


def finalists(
    arms: Mapping[str, Settings], rungs: Sequence[Rung], plan: Ladder, metric: str, engine: Engine, entry: Entry
) -> tuple[list[str], dict[str, str]]:
    """The arms that are left after all rounds, and for each of the others when it was dropped and why."""
    left = list(arms)
    dropped: dict[str, str] = {}
    for number, rung in enumerate(rungs, start=1):
        run = {arm: replace(arms[arm], steps=rung.steps, seconds=plan.limit(rung.steps)) for arm in left}
        study = Study(Paper(f"Round {number} of {len(rungs)}", "", 2026), validate, run)
        (finding,) = engine.run([Job(entry, study)])
        scores = {arm: score_of(found) for arm, found in finding.arms.items()}
        left.sort(key=lambda arm: (-scores[arm][0], -scores[arm][1], arm))
        keep = rungs[number].ideas if number < len(rungs) else FINALISTS
        for rank, arm in enumerate(left[keep:], start=keep + 1):
            said = f"{metric} {scores[arm][0]:.3f}" if scores[arm][0] > -math.inf else "failed"
            dropped[arm] = f"round {number} of {len(rungs)}, {rung.steps} steps: {said}, {rank} of {len(left)}"
        left = left[:keep]
    return left, dropped


def score_of(arm: ArmFinding) -> tuple[float, float]:
    """What an arm reached on validation: its score, then minus its log-loss; minus infinity where it failed."""
    if not arm.metrics:
        return -math.inf, -math.inf
    return arm.metrics["score"].mean, -(arm.metrics["loss"].mean if "loss" in arm.metrics else 0.0)
