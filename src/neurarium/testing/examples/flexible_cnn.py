"""How skipping convolutions, fixed filters and networks from a name are used."""

from __future__ import annotations

import torch

from neurarium import layers, models
from neurarium.testing.examples._shared import seed
from neurarium.testing.world import ModuleExample

MODULES: dict[str, ModuleExample] = {
    "SkippingConv2d": lambda w: (
        layers.SkippingConv2d(3, 4, 3, 1, torch.eye(4, 3).bool() | torch.ones(4, 1).bool(), path="gathered"),
        (w.x(2, 3, 7, 7),),
    ),
    "ImageFilters": lambda w: (layers.ImageFilters(sizes=(3, 5)), (w.x(2, 3, 7, 7),)),
    "FlexibleCNN": lambda w: (
        models.FlexibleCNN("4M-6M-5N", 1, 12, 3, 3, (2, 1), connections=2, generator=seed()), (w.x(2, 1, 12, 12),),
    ),
}  # fmt: skip
