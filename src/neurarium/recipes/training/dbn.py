"""Deep belief networks: layers that learn the inputs before they learn the targets."""

from __future__ import annotations

from typing import final

import torch
from torch import nn

from neurarium.data import Arrays, Batches
from neurarium.models import DeepBeliefNetwork
from neurarium.recipes.gradient import Plan, learn
from neurarium.recipes.knobs import Knobs, Real, Whole, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Predictor, Progress, Recipe, Traits


@final
class DBN(Recipe):
    """Deep belief network: sigmoid layers that first model the inputs without labels, then learn by backpropagation."""

    slug = "dbn"
    paper = "dbn"
    traits = Traits("order", own_model=True)
    knobs = {
        "learning_rate": rate(3e-3), "hidden": Whole(16, 512, 128, log=True), "depth": Whole(1, 3, 2),
        "first_rate": Real(1e-4, 2e-2, 2e-3, log=True), "upper_rate": Real(1e-2, 0.3, 0.1, log=True),
    }  # fmt: skip

    def train(self, problem: Problem, knobs: Knobs, progress: Progress) -> Predictor:
        """A third of the steps, in whole passes, goes to the machines, at least one pass each; they see no target."""
        x = problem.train.x.flatten(1)
        mean, deviation = x.mean(0), x.std(0).clamp_min(1e-3)
        inputs = Batches(
            Arrays((x - mean) / deviation, problem.train.y), problem.batch_size, shuffle=True, seed=progress.seed
        )
        generator = torch.Generator().manual_seed(progress.seed)
        depth = knobs["depth"]
        sizes = (x.shape[1], *[knobs["hidden"]] * depth)
        network = DeepBeliefNetwork(sizes, visible_units="gaussian", generator=generator).to(problem.device)
        passes = max(1, problem.steps // (3 * depth * len(inputs)))
        rates = [knobs["first_rate"], *[knobs["upper_rate"]] * (depth - 1)]
        network.pretrain(inputs, epochs=passes, learning_rate=rates, generator=generator)
        torch.manual_seed(progress.seed)
        model = network.to_classifier(problem.outputs)
        into_inputs(model[1], mean, deviation)
        share = max(0.1, 1 - passes * depth * len(inputs) / problem.steps)
        return learn(problem, Plan(model), knobs, progress, share=share)


@torch.no_grad()
def into_inputs(layer: nn.Module, mean: torch.Tensor, deviation: torch.Tensor) -> None:
    """Let a linear layer that was given standardised inputs take them as they are."""
    if isinstance(layer, nn.Linear):
        layer.weight.div_(deviation)
        layer.bias.sub_(layer.weight @ mean)
