"""A network whose products are piecewise affine."""

from __future__ import annotations

from typing import final

from neurarium.layers import to_piecewise_affine
from neurarium.learning import PAMAdamW
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Choice, Knobs, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


@final
class PiecewiseAffine(GradientRecipe):
    """Piecewise affine: every product of two numbers is replaced by one that only adds."""

    slug = "piecewise-affine"
    paper = "piecewise-affine"
    traits = Traits("layers")
    knobs = {"learning_rate": rate(1e-3), "optimizer": Choice(("adamw", "piecewise affine"), "adamw")}

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """The matrix products exchanged."""
        model = to_piecewise_affine(problem.make_model(progress.seed), inplace=True).model
        if knobs["optimizer"] == "adamw":
            return Plan(model)
        return Plan(model, optimizer=PAMAdamW(model.parameters(), knobs["learning_rate"]))
