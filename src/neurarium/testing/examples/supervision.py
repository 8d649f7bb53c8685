"""How objectives that put several supervisions on one network are used, and what measures them."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.functional import cross_entropy

from neurarium import objectives, probes
from neurarium.testing.world import Example, ModuleExample, World


def levels() -> objectives.HierarchicalSupervision:
    """Two sets of classes on top of each other."""
    return objectives.HierarchicalSupervision(
        [
            objectives.SupervisionLevel(nn.Linear(8, 6), cross_entropy),
            objectives.SupervisionLevel(nn.Linear(6, 6), cross_entropy, nn.Linear(6, 3)),
        ]
    )


def opera(w: World, **options: Any) -> objectives.OmniSupervised:
    """A small one."""
    return objectives.OmniSupervised(nn.Linear(8, 6), 6, 3, projection_dim=4, hidden_dim=8, **options)


MODULES: dict[str, ModuleExample] = {
    "SupervisionLevel": lambda w: (objectives.SupervisionLevel(nn.Linear(8, 4), cross_entropy), (w.x(5, 8),)),
    "HierarchicalSupervision": lambda w: (levels(), (w.x(12, 8), [w.y() % 2, w.y()])),
    "OmniSupervised": lambda w: (opera(w), (w.x(12, 8), w.x(12, 8, seed=1), w.y())),
}

EXAMPLES: dict[str, Example] = {
    "supervision_conflict": lambda w: conflict(w),
    "linear_probe": lambda w: probes.linear_probe(w.examples(), w.y(), w.examples(seed=1), w.y()),
}


def conflict(w: World) -> Any:
    """The conflict in a batch."""
    model: Any = w.new(lambda: opera(w))
    return probes.supervision_conflict(model, w.examples(), w.examples(seed=1), w.y())
