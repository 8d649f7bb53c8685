"""How networks that are told their task by examples, and their losses, are used."""

from __future__ import annotations

from neurarium import layers, models, objectives
from neurarium.testing.world import Example, ModuleExample, World


def masks(w: World) -> list[bool]:
    """Which of two members is a mask."""
    return [True, False]


MODULES: dict[str, ModuleExample] = {
    "ContextUNet": lambda w: (
        models.ContextUNet(1, 2, 4, 2), (w.x(2, 1, 5, 6), w.x(2, 3, 1, 5, 6, seed=1), w.x(2, 3, 2, 5, 6, seed=2)),
    ),
    "ConvResidualUnit": lambda w: (layers.ConvResidualUnit(4), (w.x(2, 4, 5, 6),)),
    "PairwiseConvAvg": lambda w: (layers.PairwiseConvAvg(4), (w.x(2, 3, 4, 5, 6), w.x(2, 4, 5, 6, seed=1))),
}  # fmt: skip

EXAMPLES: dict[str, Example] = {
    "imaging_loss": lambda w: objectives.imaging_loss(w.x(2, 1, 5, 6), w.positive(2, 1, 5, 6), masks(w)),
    "local_ncc_loss": lambda w: objectives.local_ncc_loss(w.x(2, 1, 9, 9), w.x(2, 1, 9, 9, seed=1), 5),
    "soft_dice_loss": lambda w: objectives.soft_dice_loss(w.positive(2, 5, 6), w.positive(2, 5, 6, seed=1)),
}
