"""A network that represents each batch as another, trained one does."""

from __future__ import annotations

from typing import final

from neurarium import objectives
from neurarium.learning import Backprop
from neurarium.recipes._compressing import trained
from neurarium.recipes.gradient import Plan, learn
from neurarium.recipes.knobs import Choice, Knobs, Real, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Predictor, Progress, Recipe, Traits


@final
class Guidance(Recipe):
    """Guidance: hidden layers are drawn to those of a guide, the same network trained from other weights."""

    slug = "guidance"
    paper = "guidance"
    traits = Traits("objective")
    knobs = {
        "learning_rate": rate(1e-3),
        "weight": Real(0.01, 10.0, 0.3, log=True),
        "guide": Choice(("trained", "untrained"), "trained"),
    }

    def train(self, problem: Problem, knobs: Knobs, progress: Progress) -> Predictor:
        """Half of the steps train the guide, half the network; an untrained guide leaves all steps to the network."""
        other = progress.seed + 1
        if knobs["guide"] == "trained":
            guide, share = trained(problem, progress, share=0.5, seed=other), 0.5
        else:
            guide, share = problem.make_model(other), 1.0
        model = problem.make_model(progress.seed)
        with objectives.Guidance(model, guide, weight=knobs["weight"]) as guidance:
            rule = Backprop(model, guidance.around(problem.loss))
            return learn(problem, Plan(model, rule), knobs, progress, share=share)
