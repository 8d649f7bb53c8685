"""A scalar that starts at zero in every residual block."""

from __future__ import annotations

from typing import final

import torch

from neurarium.layers import parameter_groups, rezero_
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Choice, Knobs, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


@final
class ReZero(GradientRecipe):
    """ReZero: every residual branch is scaled by a number that starts at zero."""

    slug = "rezero"
    paper = "rezero"
    traits = Traits("layers")
    knobs = {"learning_rate": rate(1e-3), "remove_norms": Choice((False, True), False)}

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """The residual blocks converted."""
        model = problem.make_model(progress.seed)
        rezero_(model, remove_norms=knobs["remove_norms"])
        optimizer = torch.optim.AdamW(
            parameter_groups(model, knobs["learning_rate"]), knobs["learning_rate"], fused=True
        )
        return Plan(model, optimizer=optimizer)
