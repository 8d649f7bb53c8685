"""How much two tasks use the same weights (section 2.3, Fig. 2C)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neurarium.probes._result import ProbeResult
from neurarium.probes.fisher._fisher import FisherDiagonal


@dataclass(frozen=True)
class FisherOverlap(ProbeResult):
    """Overlap of two Fisher diagonals by layer, between 0 (no weight in common) and 1 (proportional).

    Args:
        layers: module name -> overlap, in the order of the model's definition.
    """

    layers: Mapping[str, float]

    def summary(self) -> str:
        """Overlap by depth."""
        return "Fisher overlap: " + ", ".join(f"{name or 'model'} {value:.3f}" for name, value in self.layers.items())

    def plot(self, ax: Any) -> Any:
        """Overlap against depth."""
        ax.plot(range(1, len(self.layers) + 1), list(self.layers.values()), marker="o")
        ax.set_xlabel("layer")
        ax.set_ylabel("Fisher overlap")
        ax.set_ylim(0, 1)
        return ax


def fisher_overlap(first: FisherDiagonal, second: FisherDiagonal) -> FisherOverlap:
    """1 - d^2 for each layer, d the Fréchet distance of the two diagonals scaled to unit sum.

    With diagonal matrices the distance is d^2 = 1/2 sum_i (sqrt F1_i - sqrt F2_i)^2, so the overlap is
    sum_i sqrt(F1_i F2_i): 1 where the diagonals are proportional, 0 where they have no weight in common.

    Raises:
        ValueError: the two do not have the same parameters, or a layer's information is zero everywhere.
    """
    a, b = first.layers(), second.layers()
    if {k: v.shape for k, v in a.items()} != {k: v.shape for k, v in b.items()}:
        raise ValueError("first and second must come from models with the same parameters")
    overlaps = {}
    for layer in a:
        one, other = a[layer].double(), b[layer].double()
        if not (one.sum() > 0 and other.sum() > 0):
            raise ValueError(f"the Fisher information of layer {layer!r} is zero everywhere, so it has no direction")
        distance = 0.5 * ((one / one.sum()).sqrt() - (other / other.sum()).sqrt()).square().sum()
        overlaps[layer] = float(1 - distance)
    return FisherOverlap(overlaps)
