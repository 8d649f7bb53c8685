"""A network grown a few units at a time."""

from __future__ import annotations

from typing import final

from neurarium.learning import GradientBoostedNetworkClassifier, GradientBoostedNetworkRegressor
from neurarium.recipes.knobs import Knobs, Real, Whole
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Predictor, Progress, Recipe, Traits
from neurarium.recipes.references.estimators import fitted


@final
class Boosting(Recipe):
    """Gradient boosting of one hidden layer: unit after unit, each fitted to what the others have left."""

    slug = "boosting"
    paper = "gbnn"
    traits = Traits("ensemble", inputs="vectors", own_model=True)
    knobs = {
        "units": Whole(20, 400, 100, log=True),
        "shrinkage": Real(0.05, 1.0, 0.3, log=True),
        "subsample": Real(0.2, 1.0, 0.5),
        "weight_decay": Real(1e-6, 1e-1, 1e-3, log=True),
    }

    def train(self, problem: Problem, knobs: Knobs, progress: Progress) -> Predictor:
        """Fit it on all examples at once, in double precision."""
        kind = GradientBoostedNetworkClassifier if problem.classes else GradientBoostedNetworkRegressor
        return fitted(kind(**knobs, max_iter=50, random_state=progress.seed), problem)
