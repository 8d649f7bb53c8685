"""The classifier that very deep and wide networks become."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from neurarium.recipes.knobs import Knobs, Real
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Predictor, Progress, Recipe, Traits
from neurarium.theory import SingularKernelClassifier


@final
class DeepKernelLimit(Recipe):
    """Infinite depth: every training example votes with the weight 1 / distance^alpha; nothing is trained."""

    slug = "optimal-deep-ntk"
    paper = "optimal-deep-ntk"
    traits = Traits("memory", targets="classes", own_model=True)
    knobs = {"alpha": Real(1.0, 64.0, 8.0, log=True)}

    def train(self, problem: Problem, knobs: Knobs, progress: Progress) -> Predictor:
        """Keep the examples."""
        x, y = problem.train.x.flatten(1), problem.train.y
        model = SingularKernelClassifier(knobs["alpha"]).fit(x, y)

        def predict(inputs: Tensor) -> Tensor:
            share = (1 + model.decision_function(inputs.flatten(1))) / 2
            scores = share.new_full((len(inputs), problem.outputs), -30.0)
            scores[:, model.classes] = share.clamp_min(1e-9).log()
            return scores.float()

        return Predictor(torch.no_grad()(predict), x.nbytes + y.nbytes)
