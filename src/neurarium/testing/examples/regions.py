"""How the probes of functions over a whole domain are used: regions, topology, complexity."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from neurarium import models, probes, search
from neurarium.data import Arrays
from neurarium.testing.world import Example, ModuleExample, World

EXAMPLES: dict[str, Example] = {
    "boolean_complexity": lambda w: probes.boolean_complexity(w.mlp(4, 6, 1), 4),
    "function_complexity": lambda w: probes.function_complexity(
        w.mlp(3, 6, 1), [(-1.0, 1.0)] * 3, resolution=8, planes=2, generator=torch.Generator().manual_seed(0)
    ),
    "generated_complexity": lambda w: probes.generated_complexity(
        written(w), w.whole([1, 2], [3, 4]), 6, generator=torch.Generator().manual_seed(0)
    ),
    "grid_complexity": lambda w: probes.grid_complexity(w.x(2, 9, 9)),
    "random_weight_complexity": lambda w: probes.random_weight_complexity(
        w.mlp(2, 6, 1), (-1.0, 1.0), [0.3, 3.0], samples=2, resolution=8, generator=torch.Generator().manual_seed(0)
    ),
    "decision_tree": lambda w: grown(w),
    "betti_numbers": lambda w: probes.betti_numbers(w.x(9, 9) > 0),
    "decision_region_homology": lambda w: probes.decision_region_homology(
        w.mlp(2, 8, 1), (-1.0, 1.0), resolution=9, largest=33
    ),
    "grid_persistence": lambda w: probes.grid_persistence(w.x(9, 9)),
    "plane_slice": lambda w: probes.plane_slice(bent(w), w.x(3, 4))(w.x(5, 2)),
    "point_cloud_homology": lambda w: probes.point_cloud_homology(w.x(20, 3)),
    "smallest_width": lambda w: (
        search.smallest_width(
            lambda h: w.mlp(8, h, 3),
            labelled(w),
            [1, 4],
            range(2),
            lambda model: model[0].out_features > 1,  # type: ignore[index]
            steps=2,
        ).rates
    ),
    "train_together": lambda w: search.train_together(lambda: w.mlp(8, 4, 3), labelled(w), range(2), steps=2),
    "local_affine": lambda w: probes.local_affine(bent(w), w.x(3, 4)),
}

MODULES: dict[str, ModuleExample] = {
    "VariantMlp": lambda w: (models.VariantMlp(8, 3, 2, 8, residual=True, norm=True, gate=True), (w.x(5, 8),)),
    "PlaneSlice": lambda w: (
        probes.PlaneSlice(nn.Linear(4, 3), torch.zeros(4), torch.ones(4), torch.arange(4.0)), (w.x(5, 2),)
    ),
}  # fmt: skip


def bent(w: World) -> nn.Module:
    """A network of pieces, with batch norm and dropout."""
    return w.new(lambda: nn.Sequential(
        nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 4), nn.Hardtanh(), nn.Linear(4, 3)
    ))  # fmt: skip


def written(w: World) -> nn.Module:
    """A language model of one word at a time."""
    return w.new(lambda: nn.Sequential(nn.Embedding(9, 6), nn.Tanh(), nn.Linear(6, 9)))


def labelled(w: World) -> Arrays:
    """Examples of three classes."""
    return Arrays(w.examples(), w.y().long())


def grown(w: World) -> Any:
    """A tree's outputs, and its size."""
    tree = probes.decision_tree(w.mlp(2, 4, 3), (-1.0, 1.0))
    return tree.predict(w.x(5, 2).clamp(-1, 1)), len(tree.leaves), torch.stack([leaf.matrix for leaf in tree.leaves])
