"""Backpropagation with AdamW."""

from __future__ import annotations

from typing import final

from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Knobs, Real, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


@final
class Backprop(GradientRecipe):
    """The network brought, trained by backpropagation with AdamW whose rate falls along a cosine."""

    slug = "backprop"
    traits = Traits("reference")
    knobs = {"learning_rate": rate(1e-3), "weight_decay": Real(1e-4, 1.0, 0.01, log=True)}

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """Nothing differs."""
        return Plan(problem.make_model(progress.seed))
