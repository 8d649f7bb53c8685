"""A network that is sparse from the start and rewires itself."""

from __future__ import annotations

from typing import final

import torch

from neurarium.compression import SparseEvolution, random_sparse
from neurarium.recipes.gradient import GradientRecipe, Plan, adamw
from neurarium.recipes.knobs import Knobs, Real, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


@final
class SparseEvolutionary(GradientRecipe):
    """Sparse evolutionary training: few connections from the start; the weakest move elsewhere after every pass."""

    slug = "sparse-evolution"
    paper = "set"
    traits = Traits("compressor", shrinks=True)
    knobs = {"learning_rate": rate(3e-3), "density": Real(0.02, 0.5, 0.2, log=True), "zeta": Real(0.05, 0.5, 0.3)}

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """Sparse layers in place of the linear ones, all but the last."""
        generator = torch.Generator().manual_seed(progress.seed)
        dense = problem.make_model(progress.seed)
        model = random_sparse(dense, density=knobs["density"], generator=generator).model.to(problem.device)
        optimizer = adamw(model, knobs)
        every = max(len(problem.batches(0)), problem.steps // 40)
        evolution = SparseEvolution(model, optimizer, zeta=knobs["zeta"], every=every, generator=generator)
        return Plan(model, optimizer=optimizer, callbacks=[evolution])
