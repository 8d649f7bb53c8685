"""One idea on the data and the network that a person brings: the trial that `compare` runs for every arm.

All ideas see the same examples in the same order and start from the same weights where they have the same network. The
test examples are scored once, at the end, by the trial and not by the idea, which never holds them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from neurarium.compression import milliseconds
from neurarium.lab import Metrics, Run
from neurarium.recipes import find
from neurarium.studies.brought import Brought, load_scaled, make_problem


@dataclass(frozen=True)
class Settings(Brought):
    """One arm: an idea with its knobs (those that are not named are at their defaults)."""

    idea: str = "backprop"
    knobs: Mapping[str, float | int | str | bool] = field(default_factory=dict)


def trial(settings: Settings, run: Run) -> Metrics:
    """Train by the idea's recipe; scores on the test part, then what training and predicting cost."""
    split, images = load_scaled(settings)
    problem = make_problem(settings, split, images, run.device)
    recipe = find(settings.idea)
    start = time.perf_counter()
    predictor = recipe.train(problem, recipe.defaults() | dict(settings.knobs), run)
    seconds = time.perf_counter() - start
    test = problem.test_part(split)
    found = problem.scores(predictor.predict, test)
    with torch.no_grad():
        taken = milliseconds(lambda: predictor.predict(test.x[:1]))
    return found | {
        "training_seconds": seconds,
        "prediction_ms": taken,
        "bytes": float(predictor.size),
        **predictor.costs,
    }
