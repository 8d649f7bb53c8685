"""Linear experts whose keys are near an input vote."""

from __future__ import annotations

from typing import final

import torch

from neurarium.continual import DifferentiableEnsemble
from neurarium.recipes._observing import observed
from neurarium.recipes.knobs import Knobs, Real, Whole
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Predictor, Progress, Recipe, Traits


@final
class DEE(Recipe):
    """DE&E: linear experts near an input vote; each example is seen once and only its own class is touched."""

    slug = "dee"
    paper = "dee"
    traits = Traits("memory", targets="classes", own_model=True)
    knobs = {
        "experts": Whole(32, 256, 64, log=True),
        "neighbours": Whole(1, 16, 8, log=True),
        "balance": Real(0.01, 3.0, 0.3, log=True),
    }

    def train(self, problem: Problem, knobs: Knobs, progress: Progress) -> Predictor:
        """One pass; steps get shorter with the batches that a class has had, so that its size does not matter."""
        learner = DifferentiableEnsemble(
            num_classes=problem.outputs, num_experts=knobs["experts"], k=knobs["neighbours"], balance=knobs["balance"],
            generator=torch.Generator().manual_seed(progress.seed),
        )  # fmt: skip
        return observed(learner, problem, progress.seed)
