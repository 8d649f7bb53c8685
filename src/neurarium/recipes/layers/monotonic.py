"""Monotonic networks: held along the inputs that go with the target."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from neurarium.models import MonotonicNet
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Knobs, Real, Whole, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


class TwoScores(nn.Module):
    """One logit as the scores of two classes."""

    def forward(self, x: Tensor) -> Tensor:
        """[batch, 1] to [batch, 2]."""
        return torch.cat([torch.zeros_like(x), x], 1)


@final
class Monotonic(GradientRecipe):
    """Monotonic network: cannot fall along inputs whose ranks go with the target's, nor rise along those against it."""

    slug = "monotonic"
    paper = "monotonic"
    traits = Traits("layers", inputs="vectors", own_model=True)
    knobs = {
        "learning_rate": rate(5e-3), "hidden": Whole(8, 128, 32, log=True), "correlation": Real(0.05, 1.0, 0.3),
    }  # fmt: skip

    def fits(self, problem: Problem) -> str:
        """Numbers, or two classes: a direction needs an order."""
        if len(problem.classes) > 2:
            return "needs numbers or two classes as targets: more classes have no order"
        return super().fits(problem)

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """Hold the inputs whose rank correlation with the target is at least so large, in training examples."""
        x, y = problem.train.x.flatten(1), problem.train.y
        directions = ranks_agree(x, y, knobs["correlation"])
        generator = torch.Generator().manual_seed(progress.seed)
        net: nn.Module = MonotonicNet(directions, (knobs["hidden"],) * 2, generator=generator)
        model = nn.Sequential(net, TwoScores()) if problem.classes else net
        return Plan(model.to(problem.device))


def ranks_agree(x: Tensor, y: Tensor, least: float) -> list[int]:
    """1 or -1 for each input whose Spearman correlation with the target is at least ``least``, else 0."""
    ranks = torch.stack([_ranks(column) for column in x.cpu().double().T])
    target = _ranks(y.cpu().double())
    together = (ranks @ target) / (ranks.norm(dim=1) * target.norm()).clamp_min(1e-12)
    return [int(r.sign()) if abs(float(r)) >= least else 0 for r in together]


def _ranks(values: Tensor) -> Tensor:
    """Centred ranks, equal values sharing theirs."""
    _, group, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0)
    mean = (last - (counts - 1) / 2).double()
    return mean[group] - mean[group].mean()
