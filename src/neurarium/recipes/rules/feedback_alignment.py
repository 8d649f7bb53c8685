"""Feedback alignment: random weights on the way back."""

from __future__ import annotations

from typing import final

from neurarium import learning
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Knobs, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


@final
class FeedbackAlignment(GradientRecipe):
    """Feedback alignment: the backward pass uses fixed random matrices in place of the weights."""

    slug = "feedback-alignment"
    paper = "dfa"
    traits = Traits("rule")
    knobs = {"learning_rate": rate(1e-3)}

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """Random matrices beside the layers."""
        model = problem.make_model(progress.seed)
        return Plan(model, learning.FeedbackAlignment(model, problem.loss))
