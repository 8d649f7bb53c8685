"""Students from cheap to dear, each taught what the ones before have left."""

from __future__ import annotations

from typing import final

from neurarium import compression
from neurarium.recipes._compressing import CompressorRecipe
from neurarium.recipes.knobs import Knobs, Real, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Traits


@final
class ProgressiveDistillation(CompressorRecipe):
    """Progressive distillation: small students, one after another, learn what those before have left of the teacher."""

    slug = "progressive-distillation"
    paper = "mamba-pkd"
    traits = Traits("compressor", targets="classes", shrinks=True)
    knobs = {
        "learning_rate": rate(2e-3),
        "alpha": Real(0.0, 1.0, 0.5),
        "temperature": Real(1.0, 8.0, 2.0, log=True),
    }

    def compressor(self, problem: Problem, knobs: Knobs, passes: int) -> compression.ProgressiveDistillation:
        """Four students share the passes."""
        return compression.ProgressiveDistillation(
            compression.plain_student, **knobs, epochs=max(1, passes // 4), batch_size=problem.batch_size
        )
