"""How the probes of functions over a whole domain are used: regions, topology, complexity."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from neurarium import probes
from neurarium.testing.world import Example, World

EXAMPLES: dict[str, Example] = {
    "decision_tree": lambda w: grown(w),
    "local_affine": lambda w: probes.local_affine(bent(w), w.x(3, 4)),
}


def bent(w: World) -> nn.Module:
    """A network of pieces, with batch norm and dropout."""
    return w.new(lambda: nn.Sequential(
        nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 4), nn.Hardtanh(), nn.Linear(4, 3)
    ))  # fmt: skip


def grown(w: World) -> Any:
    """A tree's outputs, and its size."""
    tree = probes.decision_tree(w.mlp(2, 4, 3), (-1.0, 1.0))
    return tree.predict(w.x(5, 2).clamp(-1, 1)), len(tree.leaves), torch.stack([leaf.matrix for leaf in tree.leaves])
