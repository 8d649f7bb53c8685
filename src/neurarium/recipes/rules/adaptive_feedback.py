"""Adaptive feedback alignment: PEPITA to first order."""

from __future__ import annotations

from typing import final

from neurarium import learning
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Knobs, Real, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


@final
class AdaptiveFeedback(GradientRecipe):
    """Adaptive feedback alignment: feedback matrices that are the weights times a fixed one (PEPITA to first order)."""

    slug = "adaptive-feedback"
    paper = "pepita"
    traits = Traits("rule", targets="classes")
    knobs = {"learning_rate": rate(1e-3), "feedback_scale": Real(0.005, 0.5, 0.05, log=True)}

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """The network, its layers in a row."""
        model = problem.make_model(progress.seed)
        scale = knobs["feedback_scale"]
        return Plan(model, learning.AdaptiveFeedbackAlignment(model, problem.loss, feedback_scale=scale))
