"""How wholes and their parts are seen, learned from and measured."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neurarium import objectives, probes
from neurarium.testing.world import Example, ModuleExample


def encoder() -> nn.Module:
    """Images [1, side, side] of any side to 6 features."""
    return nn.Sequential(nn.Conv2d(1, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Drawn(nn.Module):
    """The objective on views that are made by cutting, for the checks of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.objective = objectives.PartWholeObjective(encoder(), 6, 4, 12, hidden_dim=8, bottleneck_dim=4)

    def forward(self, x: Tensor) -> Tensor:
        """The loss."""
        parts = torch.stack([x[:, :, r : r + 8, c : c + 8] for r in (0, 8) for c in (0, 8)])
        parts = parts.repeat_interleave(2, 3).repeat_interleave(2, 4)
        batch = objectives.PartWholeBatch(x, x.flip(3), x[None, :, :, 4:12, 4:12], parts)
        loss: Tensor = self.objective(batch)
        return loss


MODULES: dict[str, ModuleExample] = {
    "ComposeHead": lambda w: (objectives.ComposeHead(4, 3), (w.x(5, 3, 4),)),
    "DecomposeHead": lambda w: (objectives.DecomposeHead(4, 3), (w.x(5, 4),)),
    "PartWholeObjective": lambda w: (Drawn(), (w.x(5, 1, 16, 16),)),
    "PartWholeViews": lambda w: (Still(), (w.x(3, 1, 16, 16),)),
    "PrototypeHead": lambda w: (objectives.PrototypeHead(4, 9, 8, 5), (w.x(5, 4),)),
    "SelfDistillation": lambda w: (objectives.SelfDistillation(9), (w.x(2, 5, 9), w.x(5, 9, seed=1))),
}

EXAMPLES: dict[str, Example] = {
    "coarse_to_fine": lambda w: objectives.coarse_to_fine(3, (2, 2)),
    "composition_loss": lambda w: objectives.composition_loss(w.x(5, 4), w.x(5, 4, seed=1)),
    "decomposition_loss": lambda w: objectives.decomposition_loss(w.x(5, 3, 4), w.x(5, 3, 4, seed=1)),
    "composability": lambda w: probes.composability(w.new(encoder), w.x(4, 1, 16, 16), size=8),
    "decomposability": lambda w: probes.decomposability(w.new(encoder), w.x(4, 1, 16, 16)),
    "localizability": lambda w: probes.localizability(
        w.new(encoder), w.x(2, 1, 16, 16), w.whole([[3, 4], [10, 11]], [[4, 4], [9, 12]]), 6
    ),
    "symmetry": lambda w: probes.symmetry(w.new(encoder), w.x(4, 1, 16, 16)),
}


class Still(nn.Module):
    """Views drawn anew from one seed at each pass."""

    def forward(self, x: Tensor) -> Any:
        """Views of a batch."""
        views = objectives.PartWholeViews(8, 6, generator=torch.Generator().manual_seed(0))
        found = views(x, 1)
        return found.anchor, found.centered, found.local, found.parts
