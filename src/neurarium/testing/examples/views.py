"""How views of a batch and monotonic networks are used."""

from __future__ import annotations

from torch import Tensor, nn

from neurarium import models, objectives
from neurarium.testing.examples._shared import pixels, seed
from neurarium.testing.world import Example, World

EXAMPLES: dict[str, Example] = {
    "InputTransforms": lambda w: objectives.InputTransforms([lambda x: -x])(w.x(2, 3, 4, 4)),
    "Rotations": lambda w: objectives.Rotations()(w.x(2, 3, 4, 4)),
    "ColorPermutations": lambda w: objectives.ColorPermutations()(w.x(2, 3, 4, 4)),
    "Compose": lambda w: objectives.Compose(objectives.Rotations(), objectives.ColorPermutations(3))(w.x(2, 3, 4, 4)),
    "RandomViews": lambda w: objectives.RandomViews(generator=seed())(w.x(2, 3, 8, 8)).shape,
    "SelfSupervisedLabelAugmentation": lambda w: augmented(w),
    "widen_classifier": lambda w: objectives.widen_classifier(flat(w), labels(w))(w.x(2, 8, 8)).shape,
    "MonotonicityPenalty": lambda w: objectives.MonotonicityPenalty([1, -1, 0, 0, 0, 0, 0, 1])(
        w.mlp(8, 4, 1), w.x(12, 8)
    ),
    "constrain": lambda w: models.constrain(pixels(w), [1, -1, 0, 0, 0, 0, 0, 1])(w.x(5, 8)),
}  # fmt: skip


def flat(w: World) -> nn.Module:
    """A network of images of 8 x 8 with three classes."""
    return w.new(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 3)))


def labels(w: World) -> objectives.SelfSupervisedLabelAugmentation:
    """Classes times two rotations."""
    return objectives.SelfSupervisedLabelAugmentation(objectives.Rotations(2), 3).to(w.device)


def augmented(w: World) -> Tensor:
    """The loss on joint labels of a batch's views."""
    sla = labels(w)
    views, joint = sla.augment_batch(w.x(12, 8, 8), w.y())
    return sla(views.flatten(1)[:, :6], joint)
