"""Direct feedback alignment in place of backpropagation."""

from __future__ import annotations

from typing import final

from neurarium.learning import DirectFeedbackAlignment
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Choice, Knobs, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


@final
class DFA(GradientRecipe):
    """Direct feedback alignment: each block learns from a random projection of the output's error."""

    slug = "dfa"
    paper = "dfa"
    traits = Traits("rule")
    knobs = {"learning_rate": rate(5e-4), "feedback": Choice(("shared", "independent"), "shared")}

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """The network, cut at its blocks."""
        model = problem.make_model(progress.seed)
        return Plan(model, DirectFeedbackAlignment(model, problem.loss, feedback=knobs["feedback"]))
