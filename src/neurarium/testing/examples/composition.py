"""How probes and models of compositions are used."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from neurarium import models, probes
from neurarium.data import two_hop
from neurarium.testing.examples._shared import seed
from neurarium.testing.examples.units import decoder
from neurarium.testing.world import Example, ModuleExample, World

MODULES: dict[str, ModuleExample] = {
    "HopMLP": lambda w: (models.HopMLP(5, embedding=8, hidden=16), (tokens(w) % 5,)),
}

EXAMPLES: dict[str, Example] = {
    "cluster_gap": lambda w: probes.cluster_gap(decoder(w), tokens(w), tokens(w)[:, 0] % 3, ["layers.0", "layers.1"]),
    "coverage": lambda w: covered(w),
    "coverage_curve": lambda w: probes.coverage_curve(two_hop(5, seed()), [10, 20], tests=20, generator=seed()),
    "patch_effect": lambda w: probes.patch_effect(decoder(w), tokens(w), tokens(w, 1), "layers.0", 1, tokens(w)[:, 2]),
    "required_data": lambda w: probes.required_data(two_hop(5, seed()), tests=20, generator=seed()),
}


def tokens(w: World, number: int = 0) -> Tensor:
    """Eleven tokens."""
    return (w.x(12, 3, seed=number) * 5).long().abs() % 11


def covered(w: World) -> Any:
    """Items of a small task."""
    task = two_hop(5, seed())
    split = task.sample(30, seed(), 10)
    parts = (split.train, split.tests["all seen"])
    return probes.coverage(*(t.to(w.device) for part in parts for t in (part.x, part.y))).levels
