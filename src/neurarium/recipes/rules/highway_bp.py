"""Highway backpropagation: the gradient in a few parallel rounds."""

from __future__ import annotations

from typing import final

from neurarium import learning
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Knobs, Whole, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


@final
class HighwayBP(GradientRecipe):
    """Highway backpropagation: the gradient along paths that cross few expensive branches, in parallel rounds."""

    slug = "highway-bp"
    paper = "highway-bp"
    traits = Traits("rule")
    knobs = {"learning_rate": rate(1e-3), "iterations": Whole(1, 8, 2)}

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """The network, seen as blocks in a row."""
        model = problem.make_model(progress.seed)
        return Plan(model, learning.HighwayBackprop(model, problem.loss, iterations=knobs["iterations"]))
