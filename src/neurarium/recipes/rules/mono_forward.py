"""Mono-Forward: each block has a loss of its own."""

from __future__ import annotations

from typing import final

from neurarium import learning
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Choice, Knobs, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


@final
class MonoForward(GradientRecipe):
    """Mono-Forward: each block learns from its own cross-entropy through a small matrix; nothing flows back."""

    slug = "mono-forward"
    paper = "mono-forward"
    traits = Traits("rule")
    knobs = {"learning_rate": rate(1e-3), "prediction": Choice(("last", "sum"), "last")}

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """The network, cut at its blocks."""
        model = problem.make_model(progress.seed)
        return Plan(model, learning.MonoForward(model, problem.loss, prediction=knobs["prediction"]))
