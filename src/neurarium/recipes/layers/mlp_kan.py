"""Perceptrons and Kolmogorov-Arnold networks, among which a router chooses, in every transformer block."""

from __future__ import annotations

from typing import final

from neurarium.layers import MLPKAN, replace_feed_forward
from neurarium.objectives import load_balance
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Knobs, Real, Whole, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


@final
class MlpKan(GradientRecipe):
    """MLP-KAN: in each transformer block a router sends every token to two of several perceptrons and KANs."""

    slug = "mlp-kan"
    paper = "mlp-kan"
    traits = Traits("layers")
    knobs = {
        "learning_rate": rate(2e-3), "n_mlp": Whole(1, 8, 4), "n_kan": Whole(1, 8, 4),
        "balance": Real(1e-4, 0.1, 1e-2, log=True),
    }  # fmt: skip

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """Every feed-forward network of a block exchanged; a small penalty keeps all experts in use."""
        model = problem.make_model(progress.seed)
        replace_feed_forward(
            model, lambda width: MLPKAN(width, knobs["n_mlp"], knobs["n_kan"], balance=knobs["balance"]), inplace=True
        )
        model = model.to(problem.device)
        return Plan(model, penalties=[lambda: load_balance(model)])
