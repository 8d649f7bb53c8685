"""Sub-networks of one network, trained together, of which a small one is taken out."""

from __future__ import annotations

from typing import cast, final

import torch

from neurarium.compression import SortedNet
from neurarium.learning import LearningRule
from neurarium.recipes.gradient import Plan, learn, refused
from neurarium.recipes.knobs import Choice, Knobs, Whole, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Predictor, Progress, Recipe, Traits


@final
class SortedNetwork(Recipe):
    """Sorted network: wide and narrow versions share their first units and train together; a narrow one is kept."""

    slug = "sorted-network"
    paper = "sortednet"
    traits = Traits("compressor", targets="classes", shrinks=True)
    knobs = {
        "learning_rate": rate(2e-3),
        "width": Choice((0.25, 0.5, 0.75, 1.0), 0.5),
        "per_step": Whole(1, 4, 2),
    }

    def fits(self, problem: Problem) -> str:
        """Its layers must be such that units can be cut off."""
        return super().fits(problem) or refused(lambda: self._family(problem, self.defaults(), 0))

    def train(self, problem: Problem, knobs: Knobs, progress: Progress) -> Predictor:
        """Train the family, take a member out."""
        net = self._family(problem, knobs, progress.seed)
        plan = Plan(net.model, cast(LearningRule, net), finish=lambda rule: net.extract(knobs["width"]))
        return learn(problem, plan, knobs, progress)

    def _family(self, problem: Problem, knobs: Knobs, seed: int) -> SortedNet:
        generator = torch.Generator().manual_seed(seed)
        return SortedNet(problem.make_model(seed), problem.train.x[:2], per_step=knobs["per_step"], generator=generator)
