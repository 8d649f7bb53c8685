"""A network grown a few units at a time."""

from __future__ import annotations

from typing import final

import torch
from torch import nn

from neurarium.learning import GradientBoostedHead
from neurarium.recipes.knobs import Knobs, Real, Whole
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Predictor, Progress, Recipe, Traits


@final
class Boosting(Recipe):
    """Gradient boosting of one hidden layer: unit after unit, each fitted to what the others have left."""

    slug = "boosting"
    paper = "gbnn"
    traits = Traits("ensemble", inputs="vectors", own_model=True)
    knobs = {
        "units": Whole(20, 400, 200, log=True),
        "shrinkage": Real(0.03, 1.0, 0.1, log=True),
        "subsample": Real(0.2, 1.0, 0.5),
        "weight_decay": Real(1e-6, 1e-1, 1e-3, log=True),
    }

    def train(self, problem: Problem, knobs: Knobs, progress: Progress) -> Predictor:
        """Fit all units, one for every ten steps of the budget at most; keep as many as are best on validation."""
        head = boosted_layer(problem, knobs, problem.train.x[0].numel(), progress.seed)
        head.fit(problem.train.x.flatten(1), problem.train.y).to(problem.device)
        best = best_stage(nn.Sequential(nn.Flatten(), head), head, problem)
        return Predictor.of(nn.Sequential(nn.Flatten(), head.truncate(best)))


def boosted_layer(problem: Problem, knobs: Knobs, features: int, seed: int) -> GradientBoostedHead:
    """A layer to boost, for the problem's loss, with the recipe's knobs."""
    options = {**knobs, "units": min(knobs["units"], max(10, problem.steps // 10))}
    loss = "cross_entropy" if problem.classes else "mse"
    generator = torch.Generator().manual_seed(seed)
    return GradientBoostedHead(features, problem.outputs, loss=loss, max_iter=50, generator=generator, **options)


def best_stage(model: nn.Module, head: GradientBoostedHead, problem: Problem) -> int:
    """How many of the steps are best on validation, of twenty numbers; the model uses so many from then on."""
    numbers = sorted({max(1, head.steps * part // 20) for part in range(1, 21)})

    def score(number: int) -> tuple[float, float]:
        head.set_active(number)
        found = problem.scores(model, problem.validation)
        return found[problem.metric], -found.get("log_loss", 0.0)

    best = max(numbers, key=score)
    head.set_active(best)
    return best
