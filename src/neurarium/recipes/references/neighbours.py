"""Nearest neighbours."""

from __future__ import annotations

from typing import final

from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from neurarium.recipes.knobs import Choice, Knobs, Whole
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Predictor, Progress, Recipe, Traits
from neurarium.recipes.references.estimators import fitted


@final
class Neighbours(Recipe):
    """The vote (or mean) of the nearest training examples, by scikit-learn."""

    slug = "neighbours"
    traits = Traits("reference", own_model=True)
    knobs = {"neighbours": Whole(1, 50, 5, log=True), "weights": Choice(("uniform", "distance"), "uniform")}

    def train(self, problem: Problem, knobs: Knobs, progress: Progress) -> Predictor:
        """Keep the examples."""
        kind = KNeighborsClassifier if problem.classes else KNeighborsRegressor
        count = min(knobs["neighbours"], len(problem.train))
        return fitted(kind(count, weights=knobs["weights"]), problem)
