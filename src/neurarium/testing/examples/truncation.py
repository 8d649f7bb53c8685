"""How residual stacks are multiplied out, cut off and made broad."""

from __future__ import annotations

from typing import Any

from torch import nn

from neurarium import layers, probes
from neurarium.testing.world import Example, ModuleExample, World

MODULES: dict[str, ModuleExample] = {
    "ParallelResidual": lambda w: (layers.ParallelResidual(branch(), branch(), scale=0.7), (w.x(2, 3, 5, 5),)),
    "BroadResidual": lambda w: (layers.BroadResidual.fuse([branch(), branch()]), (w.x(2, 3, 5, 5),)),
    "TruncatedResidual": lambda w: (layers.TruncatedResidual(branch(), branch(), branch()), (w.x(2, 3, 5, 5),)),
    "Increment": lambda w: (layers.Increment(nn.Linear(4, 4)), (w.x(2, 4),)),
}

EXAMPLES: dict[str, Example] = {
    "parallelise": lambda w: layers.parallelise(stack(w)).model(w.x(2, 3, 5, 5)),
    "sequentialise": lambda w: layers.sequentialise(layers.parallelise(stack(w)).model).model(w.x(2, 3, 5, 5)),
    "ordered_products": lambda w: layers.ordered_products(w.x(4, 3, 3), w.x(2, 3), 2),
    "overdetermination": lambda w: probes.overdetermination(w.classifier(), w.batches()),
    "truncation_error": lambda w: probes.truncation_error(stack(w), w.x(2, 3, 5, 5)),
}


def branch() -> nn.Module:
    """A convolution and a ReLU."""
    return nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())


def stack(w: World) -> Any:
    """Three residual blocks with batch normalisation in one of them."""
    return w.new(
        lambda: nn.Sequential(
            nn.Conv2d(3, 3, 1), layers.Residual(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))),
            layers.Residual(branch()), layers.Residual(branch()),
        )
    )  # fmt: skip
