"""How branching networks and their heads are used."""

from __future__ import annotations

from typing import Any

from torch import nn

from neurarium import models, objectives
from neurarium.testing.examples._shared import seed
from neurarium.testing.world import Example, ModuleExample, World

MODULES: dict[str, ModuleExample] = {
    "TreeOfStages": lambda w: (
        models.TreeOfStages([[nn.Linear(4, 5)], [nn.Tanh(), nn.ReLU()], [nn.Linear(5, 2) for _ in range(3)]],
                            [[0, 0], [1, 0, 1]]),
        (w.x(3, 4),),
    ),
    "BranchingNetwork": lambda w: (
        models.BranchingNetwork([first, second], lambda: nn.Linear(6, 3), activation=nn.PReLU), (w.x(5, 4),),
    ),
}  # fmt: skip

EXAMPLES: dict[str, Example] = {
    "bandersnatch": lambda w: small(w)(w.x(2, 3, 16, 16)),
    "best_head": lambda w: objectives.best_head(tree(w), w.batches()),
    "branching": lambda w: tree(w)(w.x(5, 8)),
    "combine": lambda w: objectives.combine(w.x(3, 5, 4), "rank"),
    "head_accuracies": lambda w: objectives.head_accuracies(tree(w), w.batches()),
    "heads_loss": lambda w: objectives.heads_loss(w.x(3, 12, 4), w.y()),
}


def first() -> nn.Module:
    """Makes a stage."""
    return nn.Linear(4, 6)


def second() -> nn.Module:
    """Makes another."""
    return nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))


def small(w: World) -> Any:
    """The network of the paper with few channels."""
    return w.new(lambda: models.bandersnatch(1, 3, widths=(4, 5, 6)))


def tree(w: World) -> Any:
    """A user's network with two copies behind its activation."""
    return w.put(models.branching(w.mlp(8, 6, 3), ["1"], generator=seed()))
