"""What a network's cross-patch layers have learned: how local they are, and how many of their weights matter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.layers import CrossPatch
from neurarium.probes._result import ProbeResult


@dataclass(frozen=True)
class MixingLocality(ProbeResult):
    """By layer, in order.

    Args:
        by_distance: layer -> mean squared weight at each distance between two patches (the larger of rows and columns
            apart), relative to the layer's mean; 1 everywhere where a layer is not local.
        small: layer -> share of the weights below a twentieth of the layer's largest.
    """

    by_distance: Mapping[str, Float[Tensor, " distances"]]
    small: Mapping[str, float]

    @property
    def local(self) -> float:
        """Mean over layers of the squared weight at distances 0 and 1 over the layer's mean."""
        return sum(float(d[:2].mean()) for d in self.by_distance.values()) / len(self.by_distance)

    def summary(self) -> str:
        """A line for each layer."""
        return "\n".join(
            f"{name}: squared weights at distance 0 and 1 are {float(d[:2].mean()):.1f} times the mean; "
            f"{self.small[name]:.0%} of the weights are small"
            for name, d in self.by_distance.items()
        )

    def plot(self, ax: Any) -> Any:
        """Squared weight against distance, a line for each layer."""
        for name, distances in self.by_distance.items():
            ax.plot(distances.cpu(), label=name)
        ax.axhline(1, color="grey", linewidth=0.8)
        ax.set(xlabel="patches apart", ylabel="mean squared weight, relative")
        ax.legend(fontsize="x-small")
        return ax


@torch.no_grad()
def mixing_locality(model: nn.Module) -> MixingLocality:
    """Look at every `CrossPatch` layer of a network of square images.

    Args:
        model: any module.

    Raises:
        ValueError: there is no such layer, or its patches form no square.
    """
    found, small = {}, {}
    for name, module in model.named_modules():
        if not isinstance(module, CrossPatch):
            continue
        weight = module.matrix(len(module.weight)).square()
        side = math.isqrt(len(weight))
        if side**2 != len(weight):
            raise ValueError(f"{name} mixes {len(weight)} patches, which form no square")
        place = torch.arange(len(weight), device=weight.device)
        rows, columns = place // side, place % side
        apart = torch.maximum((rows[:, None] - rows).abs(), (columns[:, None] - columns).abs())
        mean = weight.mean().clamp_min(torch.finfo(weight.dtype).tiny)
        found[name] = torch.stack([weight[apart == d].mean() for d in range(side)]) / mean
        small[name] = float((weight.sqrt() < 0.05 * weight.sqrt().max()).double().mean())
    if not found:
        raise ValueError(f"{type(model).__name__} has no CrossPatch layer")
    return MixingLocality(found, small)
