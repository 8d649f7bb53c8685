"""What the bits of a network's weights are like, plane by plane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from neurarium.layers.low_bit._bitwise import bit_layers
from neurarium.probes._result import ProbeResult


@dataclass(frozen=True)
class BitReport(ProbeResult):
    """Layers' bits.

    Args:
        ones: share of ones in each plane, by layer, from the lowest magnitude bit to the sign.
        flips: share of bits in each plane that differ from an earlier state, by layer; empty without one.
        sparsity: share of weights that are 0, by layer.
        weights: number of weights, by layer.
    """

    ones: Mapping[str, tuple[float, ...]]
    flips: Mapping[str, tuple[float, ...]]
    sparsity: Mapping[str, float]
    weights: Mapping[str, int]

    @property
    def total_sparsity(self) -> float:
        """Share of all weights that are 0."""
        return sum(self.sparsity[n] * w for n, w in self.weights.items()) / sum(self.weights.values())

    def summary(self) -> str:
        """A line per layer."""
        lines = []
        for name, zero in self.sparsity.items():
            moved = ", flipped " + " ".join(f"{f:.0%}" for f in self.flips[name]) if name in self.flips else ""
            lines.append(
                f"{name}: {self.weights[name]:,} weights of {len(self.ones[name])} bits, {zero:.1%} zero{moved}"
            )
        return "\n".join(lines)

    def plot(self, ax: Any) -> Any:
        """Flip rates by plane, or shares of ones."""
        for name, values in (self.flips or self.ones).items():
            ax.plot(range(len(values)), values, marker="o", label=name)
        ax.set(xlabel="plane (sign last)", ylabel="flipped" if self.flips else "ones")
        ax.legend()
        return ax


def planes(module: nn.Module) -> dict[str, Tensor]:
    """All bits of every layer, [bits, *shape], to hold a later `bit_report` against."""
    return {name: p.planes(x.detach()) for name, p, x in bit_layers(module)}


def bit_report(module: nn.Module, earlier: Mapping[str, Tensor] | None = None) -> BitReport:
    """Ones, zeros and flips of a network made by `neurarium.layers.bitwise`.

    Args:
        module: the network.
        earlier: what `planes` gave at an earlier time.

    Raises:
        ValueError: no layer's weight is bits.
    """
    now = planes(module)
    if not now:
        raise ValueError("no layer's weight is bits: make them with neurarium.layers.low_bit._bitwise")
    zero = {name: float((p.integers(x.detach()) == 0).double().mean()) for name, p, x in bit_layers(module)}
    return BitReport(
        ones={n: tuple(b.flatten(1).double().mean(1).tolist()) for n, b in now.items()},
        flips={n: tuple((now[n] != b).flatten(1).double().mean(1).tolist()) for n, b in (earlier or {}).items()},
        sparsity=zero, weights={n: b[0].numel() for n, b in now.items()},
    )  # fmt: skip
