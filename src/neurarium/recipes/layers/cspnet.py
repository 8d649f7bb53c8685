"""A convolutional network with cross-stage partial stages."""

from __future__ import annotations

from typing import final

import torch
from torch import nn

from neurarium.models import CSPNet, CSPStage
from neurarium.recipes._pictures import image_reader
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Knobs, Real, Whole, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


@final
class CrossStage(GradientRecipe):
    """CSPNet: a convolutional network in which a part of the channels goes around each stage's blocks."""

    slug = "cspnet"
    paper = "cspnet"
    traits = Traits("layers", inputs="images", own_model=True)
    knobs = {
        "learning_rate": rate(3e-3), "width": Whole(8, 128, 24, log=True), "depth": Whole(1, 8, 2),
        "bypass": Real(0.25, 0.75, 0.5),
    }  # fmt: skip

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """Two stages, the second at half the size and twice the width; large images are made smaller at once."""
        reader, (channels, height, _) = image_reader(problem.train.x)
        torch.manual_seed(progress.seed)
        width = knobs["width"]
        stages = [
            CSPStage(wide, knobs["depth"], stride, bypass=knobs["bypass"])
            for wide, stride in ((width, 1), (2 * width, 2))
        ]
        stem = (width, 3, 1 if height <= 16 else 2)
        model = CSPNet(stages, stem, in_channels=channels, num_classes=problem.outputs)
        return Plan(nn.Sequential(reader, model).to(problem.device))
