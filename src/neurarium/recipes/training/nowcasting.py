"""Jumps to forecast weights between steps."""

from __future__ import annotations

from typing import final

from neurarium.learning import LinearNowcast, Nowcaster
from neurarium.recipes.gradient import GradientRecipe, Plan, adamw
from neurarium.recipes.knobs import Choice, Knobs, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


@final
class Nowcasting(GradientRecipe):
    """Nowcasting: every so many steps the weights jump along the straight line that they have followed."""

    slug = "nowcasting"
    paper = "nino"
    traits = Traits("optimizer")
    knobs = {
        "learning_rate": rate(1e-3),
        "period": Choice((50, 100, 200, 500), 100),
        "horizon": Choice((5, 10, 20), 10),
    }

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """The optimizer wrapped; a jump that raises the loss on the first batch is undone."""
        model = problem.make_model(progress.seed)
        period = min(knobs["period"], problem.steps // 5 * 5)
        x, y = next(iter(problem.batches(progress.seed)))
        nowcaster = Nowcaster(
            adamw(model, knobs), model, LinearNowcast(horizon=knobs["horizon"]), period=period,
            max_steps=problem.steps, guard=lambda: problem.loss(model(x), y).detach(),
        )  # fmt: skip
        return Plan(model, optimizer=nowcaster)
