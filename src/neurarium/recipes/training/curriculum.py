"""An order of examples by how hard they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import final

from torch import Tensor
from torch.nn.functional import cross_entropy

from neurarium.data import Batches
from neurarium.learning import CurriculumSampler, cycle_sizes, difficulty_scores, growing_sizes, shrinking_sizes
from neurarium.recipes._compressing import trained
from neurarium.recipes.gradient import Plan, learn
from neurarium.recipes.knobs import Choice, Knobs, Real, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Predictor, Progress, Recipe, Traits

SCHEDULES: dict[str, Callable[..., list[float]]] = {
    "cycle": cycle_sizes,
    "grow": growing_sizes,
    "shrink": shrinking_sizes,
}


@final
class Curriculum(Recipe):
    """Curriculum: passes over a share of the examples that grows and shrinks, easy ones more likely in it."""

    slug = "curriculum"
    paper = "ccl"
    traits = Traits("order")
    knobs = {
        "learning_rate": rate(1e-3),
        "start": Real(0.1, 0.9, 0.25),
        "sizes": Choice(tuple(SCHEDULES), "cycle"),
        "first": Choice(("easy", "hard"), "easy"),
    }

    def train(self, problem: Problem, knobs: Knobs, progress: Progress) -> Predictor:
        """A quarter of the steps trains the network whose losses say what is hard, the rest follows the curriculum."""
        scorer = trained(problem, progress, share=0.25)
        hard = difficulty_scores(
            scorer, Batches(problem.train, 1024), loss=cross_entropy if problem.classes else squares
        )
        scores = hard if knobs["first"] == "hard" else 1 / hard
        passes = max(1.0, 0.75 * problem.steps * problem.batch_size / len(problem.train))
        sampler = CurriculumSampler(
            scores, SCHEDULES[str(knobs["sizes"])](start=knobs["start"], epochs=passes), seed=progress.seed
        )
        plan = Plan(problem.make_model(progress.seed), batches=Passes(problem, sampler))
        return learn(problem, plan, knobs, progress, share=0.75)


class Passes:
    """One pass of a curriculum after another, each time it is iterated; then the last one again and again."""

    def __init__(self, problem: Problem, sampler: CurriculumSampler) -> None:
        self.problem, self.sampler, self.number = problem, sampler, 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.sampler.set_epoch(min(self.number, len(self.sampler.sizes) - 1))
        self.number += 1
        whole = self.problem.train
        for rows in self.sampler.indices().split(self.problem.batch_size):
            if len(rows) > 1 or len(whole) == 1:  # batch normalisation takes no single row
                yield whole.x[rows], whole.y[rows]


def squares(output: Tensor, y: Tensor, reduction: str = "none") -> Tensor:
    """Squared error of each example, never quite zero."""
    return (output.reshape(y.shape) - y).square() + 1e-4
