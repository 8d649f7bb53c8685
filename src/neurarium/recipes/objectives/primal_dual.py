"""Bounded rows of weights, by multipliers."""

from __future__ import annotations

from typing import final

from torch import nn

from neurarium import learning
from neurarium.learning import MaxRowSum
from neurarium.recipes.gradient import GradientRecipe, Plan, adamw
from neurarium.recipes.knobs import Knobs, Real, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


@final
class PrimalDual(GradientRecipe):
    """Primal-dual: the absolute weights into each unit stay below a bound, held by multipliers that are trained too."""

    slug = "primal-dual"
    paper = "primal-dual-rnn"
    traits = Traits("objective")
    knobs = {
        "learning_rate": rate(1e-3),
        "bound": Real(0.5, 20.0, 3.0, log=True),
        "dual_lr": Real(1e-4, 1e-1, 1e-2, log=True),
    }

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """A bound for every row of the linear layers but the last."""
        model = problem.make_model(progress.seed)
        weights = [module.weight for module in model.modules() if isinstance(module, nn.Linear)][:-1]
        if not weights:
            raise ValueError("the network has no linear layer below its last one whose rows could be bounded")
        constrained = learning.PrimalDual([MaxRowSum(w, knobs["bound"]) for w in weights], dual_lr=knobs["dual_lr"])
        optimizer = adamw(model, knobs)
        constrained.attach(optimizer)
        return Plan(model, optimizer=optimizer, penalties=[constrained])
