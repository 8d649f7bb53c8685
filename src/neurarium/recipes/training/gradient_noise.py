"""Annealed Gaussian noise on every gradient."""

from __future__ import annotations

from typing import final

from neurarium import learning
from neurarium.recipes.gradient import GradientRecipe, Plan, adamw
from neurarium.recipes.knobs import Knobs, Real, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


@final
class GradientNoise(GradientRecipe):
    """Gradient noise: Gaussian noise, less and less of it, on every gradient before the step."""

    slug = "gradient-noise"
    paper = "gradient-noise"
    traits = Traits("optimizer")
    knobs = {"learning_rate": rate(1e-3), "eta": Real(1e-4, 1.0, 0.01, log=True)}

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """The optimizer noised."""
        model = problem.make_model(progress.seed)
        optimizer = adamw(model, knobs)
        learning.GradientNoise(knobs["eta"]).attach(optimizer)
        return Plan(model, optimizer=optimizer)
