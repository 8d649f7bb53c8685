"""Neighbours among remembered examples."""

from __future__ import annotations

from typing import final

from torch import Tensor

from neurarium import continual
from neurarium.recipes._observing import observed
from neurarium.recipes.knobs import Choice, Knobs, Whole
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Predictor, Progress, Recipe, Traits


@final
class VisualMemory(Recipe):
    """Visual memory: remembered examples vote on the class, the nearer the more."""

    slug = "visual-memory"
    paper = "visual-memory"
    traits = Traits("memory", targets="classes", own_model=True)
    knobs = {
        "neighbours": Whole(1, 100, 20, log=True),
        "vote": Choice(("rank", "plurality", "distance", "softmax"), "rank"),
    }

    def train(self, problem: Problem, knobs: Knobs, progress: Progress) -> Predictor:
        """Remember every training example."""
        memory = continual.VisualMemory(k=min(knobs["neighbours"], len(problem.train)), vote=knobs["vote"])

        def shares(x: Tensor) -> Tensor:
            votes = memory.predict(x).clamp_min(0)
            return (votes / votes.sum(1, keepdim=True).clamp_min(1e-12)).clamp_min(1e-6).log()

        return observed(memory, problem, progress.seed, shares)
