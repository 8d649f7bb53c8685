"""Wholes and parts of the training images first, without labels; then the labels."""

from __future__ import annotations

from dataclasses import replace
from typing import final

import torch
from torch import nn

from neurarium.objectives import HeadInput, PartWholeObjective, PartWholeViews, coarse_to_fine
from neurarium.recipes.gradient import Plan, adamw, learn, refused
from neurarium.recipes.knobs import Knobs, Real, rate
from neurarium.recipes.problem import Problem, clock, endless
from neurarium.recipes.recipe import Predictor, Progress, Recipe, Traits
from neurarium.training import evaluation, replace_module


@final
class AdamV2(Recipe):
    """Part-whole pre-training (Adam-v2): images of one layout are learned without labels first, wholes by their parts.

    A share of the steps goes to it; a slow copy of the network is then trained on the labels as everyone's is.
    """

    slug = "adam-v2"
    paper = "adam-v2"
    traits = Traits("objective", inputs="images")
    knobs = {"learning_rate": rate(1e-3), "pretraining": Real(0.1, 0.7, 0.3), "pretraining_rate": rate(1e-3)}

    def fits(self, problem: Problem) -> str:
        """Why the idea cannot be applied: the traits, or images that cannot be cut."""
        return super().fits(problem) or refused(lambda: self._try(problem))

    def _try(self, problem: Problem) -> None:
        objective, views, _ = self._made(problem, 0, 2)
        objective(views(problem.train.x[:4], 1)).backward()

    def _made(self, problem: Problem, seed: int, steps: int) -> tuple[PartWholeObjective, PartWholeViews, str]:
        """The objective on the network without its head, the views, and the head's name."""
        if problem.train.x.dim() != 4:
            raise ValueError("views are drawn of images [channels, height, width]")
        model = problem.make_model(seed)
        with torch.no_grad(), evaluation(model), HeadInput(model) as head:
            model(problem.train.x[:2])
            name, width = head.calls[-1].name, head.features.shape[1]
        # Local views have the images' own size: not every network takes others.
        side = problem.train.x.shape[-1]
        views = PartWholeViews(
            side, side, local_views=4, margin=0, generator=torch.Generator().manual_seed(seed)
        )  # fmt: skip
        objective = PartWholeObjective(
            replace_module(model, name, nn.Identity()), width, prototypes=256, hidden_dim=256, bottleneck_dim=128,
            momentum=0.99, total_steps=steps, warm_up_steps=steps // 4, frozen_steps=steps // 20,
        ).to(problem.device)  # fmt: skip
        return objective, views, name

    def train(self, problem: Problem, knobs: Knobs, progress: Progress) -> Predictor:
        """The teacher's weights under the head that the network had; half of the seconds at most go to that."""
        steps = max(2, int(problem.steps * knobs["pretraining"]))
        torch.manual_seed(progress.seed)
        objective, views, name = self._made(problem, progress.seed, steps)
        optimizer = adamw(objective, {"learning_rate": knobs["pretraining_rate"], "weight_decay": 0.04})
        start, stream = clock(problem.device), endless(problem.batches(progress.seed))
        for step in progress.track(range(steps), "steps without labels"):
            loss = objective(views(next(stream)[0], coarse_to_fine(step, (steps // 2, steps - steps // 2))))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(objective.parameters(), 3.0)
            optimizer.step()
            if clock(problem.device) - start > problem.seconds / 2:
                break
        left = replace(problem, seconds=problem.seconds - (clock(problem.device) - start))
        head = problem.make_model(progress.seed).get_submodule(name)
        model = replace_module(objective.encoder, name, head).requires_grad_(True)
        return learn(left, Plan(model), knobs, progress, share=1 - knobs["pretraining"])
