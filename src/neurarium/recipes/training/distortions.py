"""Images distorted anew each time they are seen."""

from __future__ import annotations

from typing import final

import torch

from neurarium.data import Distort
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Choice, Knobs, Real, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


@final
class Distortions(GradientRecipe):
    """Distortions: training images are moved, turned, scaled and bent anew each time they are seen."""

    slug = "distortions"
    paper = "flexible-cnn"
    traits = Traits("order", inputs="images")
    knobs = {
        "learning_rate": rate(1e-3),
        "translate": Real(0.0, 0.2, 0.05),
        "rotate": Real(0.0, 30.0, 10.0),
        "scale": Real(0.0, 0.3, 0.1),
        "elastic": Choice((False, True), False),
    }

    def fits(self, problem: Problem) -> str:
        """Not for images that lie flat."""
        flat = "the images come as vectors, in which there is nothing to turn" if problem.train.x.dim() < 3 else ""
        return super().fits(problem) or flat

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """The problem's batches, distorted."""
        distort = Distort(
            knobs["translate"], knobs["rotate"], knobs["scale"], (6.0, 36.0) if knobs["elastic"] else None,
            generator=torch.Generator().manual_seed(progress.seed),
        )  # fmt: skip
        return Plan(problem.make_model(progress.seed), batches=distort.batches(problem.batches(progress.seed)))
