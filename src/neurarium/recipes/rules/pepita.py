"""PEPITA: two forward passes in place of a backward one."""

from __future__ import annotations

from typing import final

from neurarium import learning
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Knobs, Real, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


@final
class Pepita(GradientRecipe):
    """PEPITA: a second forward pass on the input changed by the error takes the place of the backward pass."""

    slug = "pepita"
    paper = "pepita"
    traits = Traits("rule", targets="classes")
    knobs = {"learning_rate": rate(1e-3), "feedback_scale": Real(0.005, 0.5, 0.05, log=True)}

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """The network, its layers in a row."""
        model = problem.make_model(progress.seed)
        return Plan(model, learning.Pepita(model, problem.loss, feedback_scale=knobs["feedback_scale"]))
