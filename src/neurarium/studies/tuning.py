"""Choosing an idea's knobs on validation examples: draw by draw, the same draws again after an interruption.

Every arm gets the same number of draws; the first is its defaults. A draw is an ordinary trial, so what is stored is
not run again; and since the sampler is seeded and told the stored scores, it goes on exactly as it would have.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import optuna

from neurarium.lab import Paper, Study
from neurarium.lab.engine import Engine
from neurarium.lab.registry import Entry
from neurarium.lab.runner import Job
from neurarium.recipes import find
from neurarium.studies.halving import score_of
from neurarium.studies.idea import Settings, validate


@dataclass(frozen=True)
class Tuned:
    """The best draw of an arm.

    Args:
        knobs: their values.
        score: on validation.
        default_score: of the first draw, the defaults.
        draws: how many there were.
        changed: it is not the first.
    """

    knobs: Mapping[str, Any]
    score: float
    default_score: float
    draws: int
    changed: bool


def tuned(arms: Mapping[str, Settings], draws: int, engine: Engine, entry: Entry) -> dict[str, Tuned]:
    """The best of so many draws for every arm; arms without a knob to turn are not in the result."""
    searches = {arm: _Search(arm, settings, draws) for arm, settings in arms.items()}
    searches = {arm: search for arm, search in searches.items() if search.distributions}
    for number in range(draws if searches else 0):
        asked = {arm: replace(arms[arm], knobs=search.ask()) for arm, search in searches.items()}
        study = Study(Paper(f"Tuning, draw {number + 1} of {draws}", "", 2026), validate, asked)
        (finding,) = engine.run([Job(entry, study)])
        for arm, search in searches.items():
            search.tell(*score_of(finding.arms[arm]))
    return {arm: search.best() for arm, search in searches.items()}


class _Search:
    """A seeded search over one arm's knobs; those that the person has fixed stay."""

    def __init__(self, arm: str, settings: Settings, draws: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        recipe = find(settings.idea)
        self.fixed = dict(settings.knobs)
        free = {name: knob for name, knob in recipe.knobs.items() if name not in self.fixed}
        self.distributions = {name: knob.to_optuna() for name, knob in free.items()}
        sampler = optuna.samplers.TPESampler(n_startup_trials=max(4, draws // 3), seed=zlib.crc32(arm.encode()))
        self.study = optuna.create_study(direction="maximize", sampler=sampler)
        self.study.enqueue_trial({name: knob.default for name, knob in free.items()})
        self.scores: list[tuple[float, float, dict[str, Any]]] = []

    def ask(self) -> dict[str, Any]:
        """The next draw."""
        self.trial = self.study.ask(self.distributions)
        return self.fixed | self.trial.params

    def tell(self, score: float, tie: float) -> None:
        """Its score, and what decides between equals; a training that diverged or failed is told as such."""
        self.scores.append((score, tie, self.fixed | self.trial.params))
        if score == float("-inf"):
            self.study.tell(self.trial, state=optuna.trial.TrialState.FAIL)
        else:
            self.study.tell(self.trial, score)

    def best(self) -> Tuned:
        """The best draw, the earliest of equals."""
        score, _, knobs = max(self.scores, key=lambda item: item[:2])
        return Tuned(knobs, score, self.scores[0][0], len(self.scores), knobs != self.scores[0][2])
