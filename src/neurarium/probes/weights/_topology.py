"""Graph of a sparse layer: degrees, the tail of their distribution, and what is left of an earlier graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neurarium.layers import SparseLinear
from neurarium.probes._result import ProbeResult


@dataclass(frozen=True)
class DegreeDistribution(ProbeResult):
    """Connections per unit on both sides of a layer.

    Args:
        inputs: connections of each input unit, [in_features]; on the first layer, how much each feature is used.
        outputs: connections of each output unit, [out_features].
        exponent: of the power law that fits the input units' degrees best (maximum likelihood), from ``tail`` up.
        tail: smallest degree of that fit.
        distance: Kolmogorov–Smirnov distance between the fit and the degrees from ``tail`` up.
        overlap: share of an earlier graph's connections that are still there; 1 where none was given.
    """

    inputs: Tensor
    outputs: Tensor
    exponent: float
    tail: int
    distance: float
    overlap: float = 1.0

    @property
    def dispersion(self) -> float:
        """Variance over mean of the input units' degrees: about 1 in a random graph, larger with hubs."""
        degrees = self.inputs.double()
        return float(degrees.var() / degrees.mean())

    def summary(self) -> str:
        """Mean, spread and tail."""
        return (
            f"{float(self.inputs.double().mean()):.1f} connections per input unit (0 to {int(self.inputs.max())}), "
            f"variance / mean {self.dispersion:.2f}; power law of exponent {self.exponent:.2f} from {self.tail} up, "
            f"KS distance {self.distance:.3f}"
        )

    def plot(self, ax: Any) -> Any:
        """Share of the units with at least so many connections, on logarithmic axes."""
        for name, degrees in (("input units", self.inputs), ("output units", self.outputs)):
            ordered = np.sort(degrees.numpy())
            ax.step(ordered, 1 - np.arange(len(ordered)) / len(ordered), where="post", label=name)
        ax.set(xscale="log", yscale="log", xlabel="connections", ylabel="share of units with at least as many")
        ax.legend()
        return ax


def degree_distribution(layer: nn.Module, before: nn.Module | None = None) -> DegreeDistribution:
    """Degrees of a `SparseLinear`, or of a linear layer's weights that are not zero.

    Args:
        layer: the layer.
        before: an earlier copy of it, for the overlap.

    Raises:
        TypeError: a module is neither.
        ValueError: the layer has no connection, or the two differ in shape.
    """
    places, shape = _places(layer)
    if not len(places):
        raise ValueError("the layer has no connection")
    inputs = torch.bincount(places % shape[1], minlength=shape[1])
    outputs = torch.bincount(places // shape[1], minlength=shape[0])
    overlap = 1.0
    if before is not None:
        earlier, other_shape = _places(before)
        if other_shape != shape:
            raise ValueError(f"before must have the layer's shape {shape}, not {other_shape}")
        overlap = float(torch.isin(earlier, places).double().mean())
    return DegreeDistribution(inputs, outputs, *power_law(inputs[inputs > 0].numpy()), overlap)


def _places(layer: nn.Module) -> tuple[Tensor, tuple[int, int]]:
    """Where the connections are in the flattened weight matrix, and its shape."""
    if isinstance(layer, SparseLinear):
        return layer.positions().cpu(), (layer.out_features, layer.in_features)
    if isinstance(layer, nn.Linear):
        return layer.weight.detach().flatten().nonzero().squeeze(1).cpu(), (layer.out_features, layer.in_features)
    raise TypeError(f"layer must be a SparseLinear or a Linear, not {type(layer).__name__}")


def power_law(degrees: np.ndarray, least: int = 10) -> tuple[float, int, float]:
    """Exponent, start and Kolmogorov–Smirnov distance of the power law that fits the tail (Clauset et al., 2009).

    For each start the exponent is ``1 + n / Σ log(k / (start − ½))``; the start with the smallest distance is kept.

    Args:
        degrees: positive whole numbers.
        least: degrees that the tail must hold at least.
    """
    ordered = np.sort(degrees).astype(float)
    best = (float("nan"), int(ordered[0]), float("inf"))
    for start in np.unique(ordered):
        tail = ordered[ordered >= start]
        if len(tail) < min(least, len(ordered)):
            break
        exponent = 1 + len(tail) / np.log(tail / (start - 0.5)).sum()
        levels, counts = np.unique(tail, return_counts=True)
        fitted = 1 - ((levels + 0.5) / (start - 0.5)) ** (1 - exponent)
        distance = float(np.abs(counts.cumsum() / len(tail) - fitted).max())
        if distance < best[2]:
            best = (float(exponent), int(start), distance)
    return best
