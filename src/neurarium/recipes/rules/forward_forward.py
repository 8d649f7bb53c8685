"""Forward-Forward: each block tells right labels from wrong ones."""

from __future__ import annotations

from typing import Literal, final

from neurarium import learning
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Knobs, Real, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


@final
class ForwardForward(GradientRecipe):
    """Forward-Forward: each block learns to tell inputs with the right label written in from those with a wrong one."""

    slug = "forward-forward"
    paper = "mono-forward"
    traits = Traits("rule", targets="classes")
    knobs = {"learning_rate": rate(3e-3), "threshold": Real(0.5, 8.0, 2.0, log=True)}

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """The network, cut at its blocks."""
        model = problem.make_model(progress.seed)
        # A picture has a border that tells nothing; a table's first columns may tell all.
        label: Literal["overlay", "pad"] = "overlay" if problem.images else "pad"
        return Plan(model, learning.ForwardForward(model, problem.loss, threshold=knobs["threshold"], label=label))
