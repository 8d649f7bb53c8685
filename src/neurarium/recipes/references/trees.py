"""Scikit-learn's gradient-boosted trees."""

from __future__ import annotations

from typing import final

from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from neurarium.recipes.knobs import Knobs, Real, Whole, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Predictor, Progress, Recipe, Traits
from neurarium.recipes.references.estimators import fitted


@final
class Trees(Recipe):
    """Scikit-learn's gradient-boosted trees (HistGradientBoosting) with its own defaults."""

    slug = "trees"
    traits = Traits("reference", inputs="vectors", own_model=True)
    knobs = {
        "learning_rate": rate(0.1, 0.01, 0.5),
        "max_leaf_nodes": Whole(4, 128, 31, log=True),
        "max_iter": Whole(30, 300, 100, log=True),
        "l2_regularization": Real(0.0, 10.0, 0.0),
    }

    def train(self, problem: Problem, knobs: Knobs, progress: Progress) -> Predictor:
        """Fit them."""
        kind = HistGradientBoostingClassifier if problem.classes else HistGradientBoostingRegressor
        return fitted(kind(**knobs, random_state=progress.seed), problem)
