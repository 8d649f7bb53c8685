"""Contrast of images and classification at once, each on its own projection of the network's features."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn

from neurarium.learning import LearningRule
from neurarium.objectives import HeadInput, OmniSupervised, RandomViews
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Knobs, Real, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits
from neurarium.training import evaluation, replace_module


class TwoViews(LearningRule):
    """Backpropagation of the loss on two fresh views of a batch; predicts by the classification on top.

    Args:
        model: the objective with the network in it.
    """

    def __init__(self, model: OmniSupervised) -> None:
        super().__init__(model, model)
        self.objective = model

    def forward(self, x: Any) -> Tensor:
        """Class logits."""
        return self.objective.class_logits(x)

    def assign_credit(self, x: Any, y: Tensor) -> Tensor:
        """Add the gradient of the loss on the views."""
        return self.objective.assign_credit(x, y)

    def predictor(self) -> nn.Module:
        """What is needed to predict: no momentum side."""
        opera = self.objective
        _, level = opera.supervision.stack
        return nn.Sequential(opera.backbone, opera.projector, opera.predictor, level.projector, level.head)


@final
class OPERA(GradientRecipe):
    """Instances and classes at once (OPERA): two views find each other, and classes are told a projection higher."""

    slug = "opera"
    paper = "opera"
    traits = Traits("objective", targets="classes", inputs="images")
    knobs = {"learning_rate": rate(1e-3), "contrast": Real(0.05, 2.0, 0.5, log=True)}

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """The network without its last layer, below the two projections."""
        if problem.train.x.dim() != 4:
            raise ValueError("views are drawn of images [channels, height, width]")
        model = problem.make_model(progress.seed)
        with torch.no_grad(), evaluation(model), HeadInput(model) as head:
            model(problem.train.x[:2])
            name, width = head.calls[-1].name, head.features.shape[1]
        backbone = replace_module(model, name, nn.Identity())
        opera = OmniSupervised(
            backbone, width, problem.outputs, hidden_dim=256, projection_dim=64, self_weight=knobs["contrast"],
            full_weight=0.5, total_steps=problem.steps,
            views=RandomViews(generator=torch.Generator().manual_seed(progress.seed)),
        ).to(problem.device)  # fmt: skip
        return Plan(opera, rule=TwoViews(opera), finish=lambda rule: rule.predictor())
