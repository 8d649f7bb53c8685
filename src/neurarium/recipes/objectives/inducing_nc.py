"""Compact classes with centres far apart, for unequal class sizes."""

from __future__ import annotations

from contextlib import ExitStack
from typing import final

import torch
from torch import nn

from neurarium.learning import Backprop, LearningRule
from neurarium.objectives import FeatureLoss, HeadInput, NeuralCollapseRegularizer
from neurarium.recipes.gradient import GradientRecipe, Plan, adamw
from neurarium.recipes.knobs import Knobs, Real, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits
from neurarium.training import evaluation


@final
class InducingNC(GradientRecipe):
    """Induced neural collapse: features are drawn to their class's centre, all classes alike, and centres apart."""

    slug = "inducing-nc"
    paper = "inducing-nc"
    traits = Traits("objective", targets="classes")
    knobs = {"learning_rate": rate(1e-3), "compactness": Real(1e-4, 1.0, 0.01, log=True)}

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """The loss with both terms, in the published ratio of 1 to 10; the centres follow the optimizer's steps."""
        model = problem.make_model(progress.seed)
        with evaluation(model), torch.no_grad(), HeadInput(model) as head:
            model(problem.train.x[:2])
            size = head.features.shape[1]
        compactness, generator = knobs["compactness"], torch.Generator().manual_seed(progress.seed)
        penalty = NeuralCollapseRegularizer(
            problem.outputs, size, compactness, 10 * compactness, generator=generator
        ).to(problem.device)  # fmt: skip
        optimizer = adamw(model, knobs)
        penalty.attach(optimizer)
        opened = ExitStack()
        loss = opened.enter_context(FeatureLoss(model, problem.loss, penalty))

        def close(rule: LearningRule) -> nn.Module:
            opened.close()
            return model

        return Plan(model, rule=Backprop(model, loss), optimizer=optimizer, finish=close)
