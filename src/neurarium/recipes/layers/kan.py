"""KAN: a network of splines in the place of the one that was brought."""

from __future__ import annotations

from typing import final

import torch

from neurarium.layers import GridSchedule
from neurarium.models import KAN
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Knobs, Whole, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


@final
class KolmogorovArnold(GradientRecipe):
    """KAN: a trained function of one variable on every edge, sums on the nodes, no weights and no activations."""

    slug = "kan"
    paper = "kan"
    traits = Traits("layers", inputs="vectors", own_model=True)
    knobs = {
        "learning_rate": rate(5e-3), "hidden": Whole(2, 64, 8, log=True), "grid_size": Whole(2, 20, 3, log=True),
    }  # fmt: skip

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """One hidden layer; its grids follow the inputs early on."""
        x = problem.train.x.flatten(1)
        generator = torch.Generator().manual_seed(progress.seed)
        widths = [x.shape[1], knobs["hidden"], problem.outputs]
        model = KAN(widths, grid_size=knobs["grid_size"], grid_range=(-2.0, 2.0), generator=generator)
        model = model.to(problem.device)
        return Plan(model, callbacks=[GridSchedule(model, x[:1000], steps=(1, 50, 150, 300))])
