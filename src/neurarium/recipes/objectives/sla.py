"""Joint labels of class and rotation, and a student that needs one pass."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor, nn

from neurarium.learning import LearningRule
from neurarium.objectives import Rotations, SelfSupervisedLabelAugmentation, widen_classifier
from neurarium.recipes.gradient import GradientRecipe, Plan
from neurarium.recipes.knobs import Choice, Knobs, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Progress, Traits


class AugmentedLabels(LearningRule):
    """Backpropagation of the loss on all views of a batch; predicts by the student.

    Args:
        model: a network as wide as the objective needs.
        loss: the objective, in the mode "sla+sd".
    """

    def __init__(self, model: nn.Module, loss: SelfSupervisedLabelAugmentation) -> None:
        super().__init__(model, loss)
        self.augmentation = loss

    def forward(self, x: Any) -> Tensor:
        """Class logits of the student."""
        return self.augmentation.predict(self.model, x, "distilled")

    def assign_credit(self, x: Any, y: Tensor) -> Tensor:
        """Add the gradient of the loss on the views."""
        views, joint = self.augmentation.augment_batch(x, y)
        loss = self.augmentation(self.model(views), joint)
        loss.backward()
        return loss.detach()


@final
class SLA(GradientRecipe):
    """Label augmentation: the network names class and rotation at once; a student learns the average of all views."""

    slug = "sla"
    paper = "sla"
    traits = Traits("objective", targets="classes", inputs="images")
    knobs = {"learning_rate": rate(1e-3), "turns": Choice((2, 4), 4)}

    def plan(self, problem: Problem, knobs: Knobs, progress: Progress) -> Plan:
        """The network with a wider last layer, and the rule that shows it all views."""
        sla = SelfSupervisedLabelAugmentation(Rotations(knobs["turns"]), problem.outputs, mode="sla+sd")
        model = widen_classifier(problem.make_model(progress.seed), sla)
        return Plan(model, rule=AugmentedLabels(model, sla))
