"""A boosted head on the features of a trained network."""

from __future__ import annotations

from typing import final

import torch

from neurarium.learning import GradientBoostedHead, boost_head
from neurarium.recipes._compressing import trained
from neurarium.recipes.ensembles.boosting import best_stage
from neurarium.recipes.gradient import refused
from neurarium.recipes.knobs import Knobs, Real, Whole
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Predictor, Progress, Recipe, Traits


@final
class BoostedHead(Recipe):
    """Boosted head: the trained network's last layer gives way to one that is boosted unit after unit."""

    slug = "boosted-head"
    paper = "gbnn"
    traits = Traits("ensemble")
    knobs = {
        "units": Whole(10, 200, 50, log=True),
        "shrinkage": Real(0.05, 1.0, 0.3, log=True),
        "weight_decay": Real(1e-6, 1e-1, 1e-3, log=True),
    }

    def fits(self, problem: Problem) -> str:
        """It needs a linear layer at the end."""
        return super().fits(problem) or refused(lambda: linear_head(problem.make_model(0)))

    def train(self, problem: Problem, knobs: Knobs, progress: Progress) -> Predictor:
        """Train the network, then boost its head on the same examples; keep as many units as are best on validation."""
        model = trained(problem, progress, share=1.0)
        loss = "cross_entropy" if problem.classes else "mse"
        generator = torch.Generator().manual_seed(progress.seed)
        boosted = boost_head(
            model, problem.batches(progress.seed), loss=loss, max_iter=50, generator=generator, **knobs
        )
        boosted.eval()
        head = next(module for module in boosted.modules() if isinstance(module, GradientBoostedHead))
        best_stage(boosted, head, problem)
        return Predictor.of(boosted)


def linear_head(model: torch.nn.Module) -> None:
    """Whether there is a linear layer to replace.

    Raises:
        ValueError: there is none.
    """
    if not any(isinstance(module, torch.nn.Linear) for module in model.modules()):
        raise ValueError("the network has no linear layer whose place a boosted head could take")
