"""The last layer alone is trained: the control of every local rule."""

from __future__ import annotations

from typing import final

from neurarium import learning
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Knobs, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


@final
class Shallow(GradientRecipe):
    """Shallow: only the last layer learns, on layers below that stay as they began; the control of local rules."""

    slug = "shallow"
    paper = "dfa"
    traits = Traits("rule")
    knobs = {"learning_rate": rate(1e-2)}

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """No feedback below the last block."""
        model = problem.make_model(progress.seed)
        return Plan(model, learning.Shallow(model, problem.loss))
