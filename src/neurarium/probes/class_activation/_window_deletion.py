"""Whether the part that a class activation map names is what decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, avg_pool2d

from neurarium.probes._result import ProbeResult
from neurarium.probes.class_activation._class_activation import class_activation
from neurarium.training import call, evaluation


@dataclass(frozen=True)
class WindowDeletion(ProbeResult):
    """How far the true class's score falls when a window of the input is blanked out.

    Args:
        strongest: fall when it is the window of the highest mean activation, for each example.
        weakest: when it is that of the lowest.
    """

    strongest: Float[Tensor, " examples"]
    weakest: Float[Tensor, " examples"]

    @property
    def gain(self) -> float:
        """Mean of ``strongest - weakest``: above zero where the map tells what mattered."""
        return float((self.strongest - self.weakest).double().mean())

    def summary(self) -> str:
        """One sentence."""
        return (
            f"without the window of the highest activation the score falls by {float(self.strongest.mean()):.3f}, "
            f"without that of the lowest by {float(self.weakest.mean()):.3f}"
        )

    def plot(self, ax: Any) -> Any:
        """One fall against the other, a point for each example."""
        ax.scatter(self.weakest.cpu(), self.strongest.cpu(), s=9, linewidths=0)
        ax.axline((0, 0), slope=1, color="grey", linewidth=0.8)
        ax.set(xlabel="fall without the weakest window", ylabel="fall without the strongest window")
        return ax


@torch.no_grad()
def window_deletion(
    model: nn.Module, x: Tensor, y: Int[Tensor, " batch"], share: float = 0.2, fill: float = 0.0
) -> WindowDeletion:
    """Blank out the window in which a class's activation is highest, then the one in which it is lowest.

    Args:
        model: as in `class_activation`.
        x: series [batch, channels, steps] or images [batch, channels, height, width].
        y: their classes.
        share: of the positions that a window covers.
        fill: what the window is set to; 0 is the mean of standardised inputs.

    Raises:
        ValueError: ``share`` is not between 0 and 1, or as in `class_activation`.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1, not {share}")
    found = class_activation(model, x)
    maps = found.on_input(y.long())
    dims = maps.dim() - 1
    size = [max(1, round(n * share ** (1 / dims))) for n in maps.shape[1:]]
    means = (avg_pool1d, avg_pool2d)[dims - 1](maps[:, None], size, 1)[:, 0]
    rows = torch.arange(len(x), device=x.device)
    falls = []
    with evaluation(model):
        for place in (means.flatten(1).argmax(1), means.flatten(1).argmin(1)):
            corners = torch.unravel_index(place, means.shape[1:])
            inside = torch.ones_like(maps, dtype=torch.bool)
            for dim, (corner, width) in enumerate(zip(corners, size, strict=True)):
                steps = torch.arange(maps.shape[dim + 1], device=x.device)
                within = (steps >= corner[:, None]) & (steps < corner[:, None] + width)
                inside &= within.view(len(x), *[-1 if d == dim else 1 for d in range(dims)])
            blanked = torch.where(inside[:, None], torch.as_tensor(fill, dtype=x.dtype, device=x.device), x)
            falls.append(found.scores[rows, y.long()] - call(model, blanked)[rows, y.long()])
    return WindowDeletion(*falls)
