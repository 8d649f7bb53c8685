"""Linear experts whose keys are near an input vote."""

from __future__ import annotations

from typing import final

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
        "experts": Whole(8, 256, 64, log=True),
        "k": Whole(1, 32, 8, log=True),
        "lr": Real(1e-5, 1e-1, 1e-3, log=True),
    }

    def train(self, problem: Problem, knobs: Knobs, progress: Progress) -> Predictor:
        """One pass."""
        k = min(knobs["k"], knobs["experts"])
        learner = DifferentiableEnsemble(num_classes=problem.outputs, num_experts=knobs["experts"], k=k, lr=knobs["lr"])
        return observed(learner, problem, progress.seed)
