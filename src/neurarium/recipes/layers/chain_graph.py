"""A network trained as a chain graph: some layers drawn, the others integrated out."""

from __future__ import annotations

from typing import final

from torch import nn

from neurarium.learning import Backprop
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Choice, Knobs, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits
from neurarium.theory import ChainGraph


@final
class ChainGraphTraining(GradientRecipe):
    """Chain graph: in training each activation is a random variable, drawn in some layers, integrated out in others."""

    slug = "chain-graph"
    paper = "chain-graph"
    traits = Traits("layers")
    knobs = {"learning_rate": rate(1e-3), "drawn": Choice(("all but the last", "all", "none"), "all but the last")}

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """The network read as a chain graph; it predicts by the forward pass of expectations."""
        graph = ChainGraph(problem.make_model(progress.seed), "categorical" if problem.classes else "gaussian")
        hidden = tuple(graph.hidden)
        graph.sampled = {"all": hidden, "none": ()}.get(str(knobs["drawn"]), hidden[:-1])
        return Plan(graph, Backprop(graph, problem.loss), finish=evaluated)


def evaluated(rule: Backprop) -> nn.Module:
    """The graph, whose passes are expectations from now on."""
    return rule.model.eval()
