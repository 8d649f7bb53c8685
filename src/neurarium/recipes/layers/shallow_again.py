"""The residual blocks of a network side by side."""

from __future__ import annotations

from typing import final

from neurarium.layers import parallelise
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Choice, Knobs, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


@final
class ShallowAgain(GradientRecipe):
    """Shallow again: residual blocks that follow one another all read the first one's input."""

    slug = "shallow-again"
    paper = "shallow-again"
    traits = Traits("layers")
    knobs = {"learning_rate": rate(1e-3), "order": Choice((1, 2), 1)}

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """The network with its runs of residual blocks merged."""
        model = problem.make_model(progress.seed)
        return Plan(parallelise(model, order=knobs["order"], share=True).model)
