"""Copies of a network's last stages that train together; one path of them is kept."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn

from neurarium.learning import LearningRule
from neurarium.models import TreeOfStages, branching
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Knobs, Whole, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


class AllHeads(LearningRule):
    """Backpropagation of the mean loss of all heads; predicts by their mean.

    Args:
        model: gives [heads, batch, outputs].
        problem: what each head is to learn.
    """

    def __init__(self, model: TreeOfStages, problem: Problem) -> None:
        super().__init__(model, problem.loss)

    def forward(self, x: Any) -> Tensor:
        """The mean of the heads' logarithms of probabilities, or of their values."""
        outputs: Tensor = self.model(x)
        return (outputs.log_softmax(-1) if outputs.shape[-1] > 1 else outputs).mean(0)

    def assign_credit(self, x: Any, y: Tensor) -> Tensor:
        """Add the gradient of the mean loss."""
        loss = torch.stack([self.loss(output, y) for output in self.model(x)]).mean()
        loss.backward()
        return loss.detach()


@final
class Bandersnatch(GradientRecipe):
    """Bandersnatch: the stages behind the last activations double, all ends train together, the best path is kept."""

    slug = "bandersnatch"
    paper = "bandersnatch"
    traits = Traits("ensemble")
    knobs = {"learning_rate": rate(1e-3), "levels": Whole(1, 3, 1), "branches": Whole(2, 4, 2)}

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """The network cut behind its last activations, and the path that is best on validation."""
        generator = torch.Generator().manual_seed(progress.seed)
        model = problem.make_model(progress.seed)
        tree = branching(model, knobs["levels"], knobs["branches"], generator=generator).to(problem.device)

        def best(rule: Any) -> nn.Module:
            tree.eval()
            paths = [tree.path(head) for head in range(tree.heads)]
            return max(paths, key=lambda path: problem.scores(path, problem.validation)[problem.metric])

        return Plan(tree, rule=AllHeads(tree, problem), finish=best)
