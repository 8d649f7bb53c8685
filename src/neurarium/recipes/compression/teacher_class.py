"""Several small students that share out a teacher's representation."""

from __future__ import annotations

from typing import final

from neurarium import compression
from neurarium.recipes._compressing import CompressorRecipe
from neurarium.recipes.knobs import Choice, Knobs, Real, Whole, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Traits


@final
class TeacherClass(CompressorRecipe):
    """Teacher-class: each of several small students learns a part of the trained network's representation."""

    slug = "teacher-class"
    paper = "teacher-class"
    traits = Traits("compressor", targets="classes", shrinks=True)
    knobs = {
        "learning_rate": rate(3e-3),
        "students": Whole(1, 6, 4),
        "budget": Real(0.1, 1.0, 0.25, log=True),
        "split": Choice(("contiguous", "random", "overlapping", "svd"), "contiguous"),
    }

    def compressor(self, problem: Problem, knobs: Knobs, passes: int) -> compression.TeacherClass:
        """Three quarters of the passes for the students, a quarter for the head."""
        head = max(1, passes // 4)
        return compression.TeacherClass(
            knobs["students"], budget=knobs["budget"], split=knobs["split"], learning_rate=knobs["learning_rate"],
            epochs=max(1, passes - head), head_epochs=head, batch_size=problem.batch_size,
        )  # fmt: skip
