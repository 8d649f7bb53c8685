"""NoProp: each block denoises the label alone."""

from __future__ import annotations

from typing import final

from neurarium import learning
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Knobs, Real, Whole, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


@final
class NoProp(GradientRecipe):
    """NoProp: each block learns alone to recover the label from a noised one; no backward pass joins two blocks."""

    slug = "noprop"
    paper = "noprop"
    traits = Traits("rule", targets="classes")
    knobs = {"learning_rate": rate(1e-3), "blocks": Whole(2, 10, 4, log=True), "eta": Real(0.01, 1.0, 0.1, log=True)}

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """A copy of the network's lower part in every block."""
        model = problem.make_model(progress.seed)
        return Plan(model, learning.NoProp(model, problem.loss, steps=knobs["blocks"], eta=knobs["eta"]))
