"""Activations that keep a few bits for the backward pass."""

from __future__ import annotations

from typing import final

from neurarium.compression import convert_activations
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Knobs, Whole, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


@final
class FewBit(GradientRecipe):
    """Few-bit: activations keep a few bits per element for the backward pass in place of their input."""

    slug = "few-bit"
    paper = "few-bit"
    traits = Traits("layers")
    knobs = {"learning_rate": rate(1e-3), "bits": Whole(1, 4, 3)}

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """The activations converted."""
        model = convert_activations(problem.make_model(progress.seed), knobs["bits"]).model
        return Plan(model)
