"""Weights that are a few trained bits."""

from __future__ import annotations

import math
from typing import final

import torch

from neurarium.layers import bit_layers, bitwise, to_dense
from neurarium.learning import LearningRule
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Knobs, Whole, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Predictor, Progress, Traits


@final
class Bitwise(GradientRecipe):
    """Bitwise: every weight is a whole number of a few bits, and the bits themselves are trained."""

    slug = "bitwise"
    paper = "bitwise"
    traits = Traits("layers", shrinks=True)
    knobs = {"learning_rate": rate(3e-3), "bits": Whole(1, 16, 8, log=True)}

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """Random bits in place of the weights; Adam without decay, which has no meaning for bits."""
        generator = torch.Generator().manual_seed(progress.seed)
        model = bitwise(problem.make_model(progress.seed), knobs["bits"], generator=generator).model
        optimizer = torch.optim.Adam(model.parameters(), knobs["learning_rate"], fused=True)
        return Plan(model, optimizer=optimizer, finish=packed)


def packed(rule: LearningRule) -> Predictor:
    """The network with its weights as numbers; what has to be kept are the bits."""
    dense = Predictor.of(to_dense(rule.model))
    sizes = [(math.prod(layer.shape), layer.bits) for _, layer, _ in bit_layers(rule.model)]
    saved = sum(count * 4 - (count * bits + 7) // 8 for count, bits in sizes)
    return Predictor(dense.predict, dense.size - saved, dense.costs)
