"""A network of linear layers across patches and across channels."""

from __future__ import annotations

from typing import final

import torch
from torch import nn

from neurarium.models import ResMLP
from neurarium.recipes._pictures import image_reader
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Knobs, Whole, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


@final
class PatchMLP(GradientRecipe):
    """ResMLP: linear layers across the patches of an image and across channels in turn, affine maps for norms."""

    slug = "resmlp"
    paper = "resmlp"
    traits = Traits("layers", inputs="images", own_model=True)
    knobs = {
        "learning_rate": rate(3e-3), "dim": Whole(16, 192, 48, log=True), "depth": Whole(1, 8, 4),
        "patches": Whole(2, 16, 7),
    }  # fmt: skip

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """About as many patches along a side as asked for, since they have to tile the image."""
        reader, (channels, height, width) = image_reader(problem.train.x)
        if height != width:
            raise ValueError(f"needs square images, and these are {height} x {width}")
        count = min((n for n in range(1, height + 1) if height % n == 0), key=lambda n: abs(n - knobs["patches"]))
        torch.manual_seed(progress.seed)
        model = ResMLP(
            height, height // count, channels, problem.outputs, knobs["dim"], knobs["depth"], init_std=None
        )  # fmt: skip
        return Plan(nn.Sequential(reader, model).to(problem.device))
