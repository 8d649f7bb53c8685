"""One idea on the data and the network that a person brings: the trials that `compare` runs for every arm.

All ideas see the same examples in the same order and start from the same weights where they have the same network.
`validate` scores on validation examples and is what choices are made by; `trial` scores on the test examples, once, at
the end. An idea itself never holds a test example.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from neurarium.compression import account, milliseconds
from neurarium.data import Split
from neurarium.lab import Metrics, Run
from neurarium.recipes import Predictor, Problem, find
from neurarium.recipes.problem import clock
from neurarium.studies.brought import Brought, load_scaled, make_problem
from neurarium.training import evaluation


@dataclass(frozen=True)
class Settings(Brought):
    """One arm: an idea with its knobs; those that are not named are at their defaults."""

    idea: str = "backprop"
    knobs: Mapping[str, float | int | str | bool] = field(default_factory=dict)


def trial(settings: Settings, run: Run) -> Metrics:
    """Train by the idea's recipe; scores on the test part, then what training and predicting cost."""
    problem, split, predictor, seconds = _train(settings, run)
    test = problem.test_part(split)
    found = problem.scores(predictor.predict, test)
    return found | {"training_seconds": seconds, **costs(predictor, test.x[:1])}


def validate(settings: Settings, run: Run) -> Metrics:
    """Train in the same way; the validation score alone (with the log-loss, which decides between equals).

    A training that diverged scores minus infinity.
    """
    try:
        problem, _, predictor, seconds = _train(settings, run)
    except FloatingPointError:
        return {"score": -math.inf}
    found = problem.scores(predictor.predict, problem.validation)
    return {"score": found[problem.metric], "loss": found.get("log_loss", 0.0), "training_seconds": seconds}


def _train(settings: Settings, run: Run) -> tuple[Problem, Split, Predictor, float]:
    split, images = load_scaled(settings)
    problem = make_problem(settings, split, images, run.device)
    recipe = find(settings.idea)
    start = clock(problem.device)
    predictor = recipe.train(problem, recipe.defaults() | dict(settings.knobs), run)
    return problem, split, predictor, clock(problem.device) - start


def costs(predictor: Predictor, example: torch.Tensor) -> dict[str, float]:
    """What keeping and asking a predictor costs: milliseconds of one answer, bytes, weights, operations."""
    with torch.inference_mode():
        taken = milliseconds(lambda: predictor.predict(example))
    found = {"prediction_ms": taken, "bytes": float(predictor.size), **predictor.costs}
    if isinstance(predictor.predict, nn.Module):
        with evaluation(predictor.predict):
            cost = account(predictor.predict, example)
        found |= {"nonzero": float(cost.nonzero), "flops": float(cost.flops)}
    return found
