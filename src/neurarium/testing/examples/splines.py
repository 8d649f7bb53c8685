"""How what surrounds KAN layers is used: grids, formulas, pruning, the choice of a basis."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from neurarium import layers, models, objectives, probes, search
from neurarium.testing.world import Example, ModuleExample, World

MODULES: dict[str, ModuleExample] = {
    "SymbolicKANLinear": lambda w: (
        models.SymbolicKANLinear(
            layers.KANLinear(2, 2), [["x^2", "exp"], [None, "sin"]], torch.ones(4, 2, 2)
        ),
        (w.x(5, 2),),
    ),
}  # fmt: skip

EXAMPLES: dict[str, Example] = {
    "GridSchedule": lambda w: scheduled(w),
    "update_grids": lambda w: layers.update_grids(kan(w), w.x(30, 2)),
    "edge_sparsity": lambda w: objectives.edge_sparsity(kan(w), w.x(30, 2)),
    "edge_scores": lambda w: probes.edge_scores(kan(w), w.x(30, 2)),
    "suggest": lambda w: [s.r2 for s in models.suggest(kan(w), w.x(30, 2), 0, 0, 0)][:3],
    "snap": lambda w: snapped(w)(w.x(5, 2)),
    "formula": lambda w: models.formula(snapped(w), x=w.x(30, 2)).error,
    "train_kan": lambda w: models.train_kan(kan(w), w.x(30, 2), w.x(30, 1, seed=1), steps=2),
    "BasisSelection": lambda w: selected(w),
}  # fmt: skip


def kan(w: World) -> models.KAN:
    """Two inputs, one output."""
    return w.new(lambda: models.KAN([2, 1]))


def snapped(w: World) -> models.KAN:
    """A network whose edges have names."""
    return models.snap(kan(w), w.x(30, 2), choices={(0, 0, 0): "x", (0, 0, 1): "x^2"})


def scheduled(w: World) -> Tensor:
    """A network's output after its grids followed a batch."""
    model = kan(w)
    layers.GridSchedule(model, w.x(30, 2), steps=(1,))(1)
    return model(w.x(5, 2))


def selected(w: World) -> Any:
    """What the nodes of a layer chose."""
    model = w.new(lambda: layers.SelectableKANLinear(2, 3))
    selection = search.BasisSelection(model)
    selection.select(w.x(30, 2))
    selection.prune()
    return model(w.x(5, 2))
