"""How a dense transformer bends its maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neurarium.layers import DenseTransformer, splat
from neurarium.layers.warping._thin_plate import map_positions
from neurarium.probes._result import ProbeResult


@dataclass(frozen=True)
class WarpSummary(ProbeResult):
    """For each position of each map.

    Args:
        displacement: how far it reads from its own place, (x, y) in positions.
        area: of the patch that one position stands for, 1 without a warp; negative where the grid folds.
        kept: share of the positions on which nothing landed on the way back, so that they kept their value.
    """

    displacement: Float[Tensor, "batch height width 2"]
    area: Float[Tensor, "batch height_less width_less"]
    kept: Float[Tensor, " batch"]

    def summary(self) -> str:
        """One sentence."""
        moved = self.displacement.norm(dim=-1)
        return (
            f"positions read {float(moved.mean()):.2f} positions away on average (at most {float(moved.max()):.2f}); "
            f"patches of {float(self.area.min()):.2f} to {float(self.area.max()):.2f} positions; "
            f"{float((self.area < 0).double().mean()):.1%} folded, {float(self.kept.mean()):.1%} kept their value"
        )

    def plot(self, ax: Any, example: int = 0) -> Any:
        """The bent grid of one map."""
        height, width = self.displacement.shape[1:3]
        x = torch.arange(width) + self.displacement[example, ..., 0].cpu()
        y = torch.arange(height)[:, None] + self.displacement[example, ..., 1].cpu()
        ax.plot(x, y, color="C0", linewidth=0.7)
        ax.plot(x.T, y.T, color="C0", linewidth=0.7)
        ax.invert_yaxis()
        ax.set_aspect("equal")
        return ax


@torch.no_grad()
def warp_summary(transformer: DenseTransformer, u: Float[Tensor, "batch channels height width"]) -> WarpSummary:
    """Look at the grids that a dense transformer makes for some maps.

    Args:
        transformer: the layer.
        u: maps that enter it.
    """
    grid = transformer(u)
    height, width = grid.shape[1:3]
    scale = grid.new_tensor([width / 2, height / 2])
    regular = map_positions((height, width)).to(grid).view(height, width, 2)
    right = (grid[:, :-1, 1:] - grid[:, :-1, :-1]) * scale
    down = (grid[:, 1:, :-1] - grid[:, :-1, :-1]) * scale
    area = right[..., 0] * down[..., 1] - down[..., 0] * right[..., 1]
    _, weight = splat(u[:, :1], grid)
    return WarpSummary((grid - regular) * scale, area, (weight <= 1e-5).flatten(1).to(grid.dtype).mean(1))
