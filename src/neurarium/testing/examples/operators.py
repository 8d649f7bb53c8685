"""How networks that map functions to functions are used."""

from __future__ import annotations

from typing import Any

from torch import nn

from neurarium import models, objectives, probes
from neurarium.testing.world import Example, ModuleExample, World

MODULES: dict[str, ModuleExample] = {
    "DeepONet": lambda w: (models.DeepONet.mlp(8, 2, 6), (w.x(5, 8), w.x(4, 2), True)),
    "PODTrunk": lambda w: (models.PODTrunk(w.x(5, 4), w.x(4, 2), 3), (w.x(4, 2),)),
    "StackedBranch": lambda w: (models.StackedBranch(8, 3, 6), (w.x(5, 8),)),
}

EXAMPLES: dict[str, Example] = {
    "place_gradient": lambda w: gradient(w),
    "relative_l2": lambda w: objectives.relative_l2(w.x(5, 4, 1), w.positive(5, 4, 1)),
    "error_phases": lambda w: probes.error_phases([1, 2, 3, 4], [0.8, 0.4, 0.2, 0.1]),
}


def gradient(w: World) -> Any:
    """Of a network with smooth parts."""
    model = w.new(lambda: models.DeepONet(nn.Linear(8, 6), nn.Sequential(nn.Linear(2, 6), nn.Tanh())))
    y = w.x(4, 2).requires_grad_()
    return models.place_gradient(model(w.x(5, 8), y, True), y)
