"""Scikit-learn's linear models."""

from __future__ import annotations

from typing import final

from sklearn.linear_model import LogisticRegression, Ridge

from neurarium.recipes.knobs import Knobs, Real
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Predictor, Progress, Recipe, Traits
from neurarium.recipes.references.estimators import fitted


@final
class Linear(Recipe):
    """Scikit-learn's logistic regression, or ridge regression for numbers."""

    slug = "linear"
    traits = Traits("reference", own_model=True)
    knobs = {"regularization": Real(1e-3, 1e3, 1.0, log=True)}

    def train(self, problem: Problem, knobs: Knobs, progress: Progress) -> Predictor:
        """Fit it."""
        strength = knobs["regularization"]
        if not problem.classes:
            return fitted(Ridge(alpha=strength), problem)
        return fitted(LogisticRegression(C=1 / strength, max_iter=200), problem)
