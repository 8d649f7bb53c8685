"""Classes as prototypes in the space of what the network gives."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor, nn

from neurarium.learning import LearningRule
from neurarium.models import ConceptSubspaceNetwork, ConceptWeights
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Knobs, Real, Whole, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


@final
class Prototypes(GradientRecipe):
    """Prototype network: an input belongs to the class whose learned prototypes its encoding is nearest to."""

    slug = "prototypes"
    paper = "csn"
    traits = Traits("layers", targets="classes")
    knobs = {"learning_rate": rate(1e-3), "per_class": Whole(1, 8, 1), "near": Real(1e-3, 1.0, 0.05, log=True)}

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """The network brought is the encoder, its outputs the space of the prototypes."""
        encoder = problem.make_model(progress.seed)
        weights = ConceptWeights(near=knobs["near"], cover=knobs["near"], kl=0.0)
        network = ConceptSubspaceNetwork(
            encoder, problem.outputs, {"class": problem.outputs}, weights={"class": weights}, variational=False,
            duplication=knobs["per_class"],
        ).to(problem.device)  # fmt: skip
        return Plan(network, PrototypeRule(network))


class PrototypeRule(LearningRule):
    """Backpropagation of a prototype network's own loss."""

    def __init__(self, network: ConceptSubspaceNetwork) -> None:
        super().__init__(network, nn.functional.nll_loss)

    def forward(self, x: Any) -> Tensor:
        """Log-probabilities of the classes."""
        found: Tensor = self.model(x)["class"]
        return found

    def assign_credit(self, x: Any, y: Tensor) -> Tensor:
        """Add the gradient of the loss; returns it detached."""
        loss: Tensor = self.model.loss(x, {"class": y})  # type: ignore[operator]
        loss.backward()
        return loss.detach()
