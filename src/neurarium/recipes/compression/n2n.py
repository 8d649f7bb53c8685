"""A search by policy gradients for a smaller network."""

from __future__ import annotations

from typing import final

import torch

from neurarium import compression
from neurarium.models import describe
from neurarium.recipes._compressing import trained
from neurarium.recipes.gradient import refused
from neurarium.recipes.knobs import Knobs, Whole, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Predictor, Progress, Recipe, Traits


@final
class N2N(Recipe):
    """N2N: one policy takes layers out of the trained network, another narrows them; the best student is kept."""

    slug = "n2n"
    paper = "n2n"
    traits = Traits("search", targets="classes", shrinks=True)
    knobs = {"learning_rate": rate(3e-3), "iterations": Whole(1, 20, 3), "students": Whole(2, 8, 4)}

    def fits(self, problem: Problem) -> str:
        """The network must be a chain of layers that the policies know."""
        return super().fits(problem) or refused(lambda: describe(problem.make_model(0), problem.train.x[:2]))

    def train(self, problem: Problem, knobs: Knobs, progress: Progress) -> Predictor:
        """Half of the steps train the teacher, a quarter the best student; the search has as many as it needs."""
        teacher = trained(problem, progress, share=0.5)
        torch.manual_seed(progress.seed)
        search = compression.N2N(
            knobs["iterations"], knobs["iterations"], students_per_iteration=knobs["students"], epochs=2,
            final_epochs=max(1, problem.steps // (4 * len(problem.batches(0)))), search_examples=1000,
            learning_rate=knobs["learning_rate"], batch_size=problem.batch_size,
            generator=torch.Generator().manual_seed(progress.seed),
        )  # fmt: skip
        return Predictor.of(search.compress(teacher, problem.batches(progress.seed)))
