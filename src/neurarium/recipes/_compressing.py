"""Recipes that train a network and then make a smaller one of it."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import nn

from neurarium.compression import Compressor
from neurarium.recipes.gradient import Plan, learn
from neurarium.recipes.knobs import Knobs, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Predictor, Progress, Recipe


class CompressorRecipe(Recipe):
    """A compressor, applied to the network brought after half of the budget's steps have trained it.

    The other half, in passes over the training examples, is what the compressor may spend.
    """

    @abstractmethod
    def compressor(self, problem: Problem, knobs: Knobs, passes: int) -> Compressor:
        """The compressor, to train for about so many passes over the training examples in all."""

    def train(self, problem: Problem, knobs: Knobs, progress: Progress) -> Predictor:
        """Train the network, then compress it."""
        teacher = trained(problem, progress, share=0.5)
        torch.manual_seed(progress.seed)
        passes = max(1, problem.steps // (2 * len(problem.batches(0))))
        small = self.compressor(problem, knobs, passes).compress(teacher, problem.batches(progress.seed))
        return Predictor.of(small)


def trained(problem: Problem, progress: Progress, *, share: float, seed: int | None = None) -> nn.Module:
    """The network brought, trained as the reference is, with a share of the budget's steps."""
    model = problem.make_model(progress.seed if seed is None else seed)
    learn(problem, Plan(model), {"learning_rate": rate().default}, progress, share=share)
    return model
