"""Feature decay: what enters the classifier is kept small, as its weights are."""

from __future__ import annotations

from contextlib import ExitStack
from typing import final

from torch import nn

from neurarium.learning import Backprop, LearningRule
from neurarium.objectives import FeatureDecay, FeatureLoss
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Knobs, Real, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


@final
class FeatureDecayRecipe(GradientRecipe):
    """Feature decay: a penalty on the squares of what enters the last layer, the assumption of neural collapse."""

    slug = "deep-linear-nc"
    paper = "deep-linear-nc"
    traits = Traits("objective")
    knobs = {"learning_rate": rate(1e-3), "strength": Real(1e-6, 1.0, 1e-3, log=True)}

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """The loss with the penalty; ``strength`` is on the mean square norm of a feature."""
        model = problem.make_model(progress.seed)
        decay = FeatureDecay(knobs["strength"], examples=1)
        opened = ExitStack()
        loss = opened.enter_context(FeatureLoss(model, problem.loss, decay))

        def close(rule: LearningRule) -> nn.Module:
            opened.close()
            return model

        return Plan(model, rule=Backprop(model, loss), finish=close)
