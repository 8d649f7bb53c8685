"""Where the forward pass of a network, as inference, is wrong, and by how much."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neurarium.theory.chain_graph._chain_graph import ChainGraph


@dataclass(frozen=True)
class InferenceGap:
    """The forward pass against long sampling.

    Args:
        layers: hidden layer -> root mean square error of its units' expectations.
        total_variation: of the output's distribution, mean over inputs; the mean absolute error of a real output.
        kullback_leibler: of the forward pass from sampling, in nats, mean over inputs; nan for a real output.
        noise: the part of `total_variation` that sampling itself would give, from two halves of the samples.
        confidence: mean largest probability of forward pass and sampling.
    """

    layers: dict[str, float] = field(repr=False)
    total_variation: float
    kullback_leibler: float
    noise: float
    confidence: tuple[float, float]

    def summary(self) -> str:
        """The gap of the output, and of each layer."""
        rows = [f"{name}: {error:.4f}" for name, error in self.layers.items()]
        return (
            f"total variation {self.total_variation:.4f} (noise {self.noise:.4f}), {self.kullback_leibler:.4f} nats; "
            f"confidence {self.confidence[0]:.3f} against {self.confidence[1]:.3f}\nerror of means by layer: "
            + ", ".join(rows)
        )

    def plot(self, ax: Any) -> Any:
        """The error of the means, layer by layer."""
        ax.bar(list(self.layers), list(self.layers.values()))
        ax.set_ylabel("error of the expectation")
        return ax


@torch.no_grad()
def feedforward_gap(
    graph: ChainGraph, x: Float[Tensor, "batch ..."], samples: int = 1000, generator: torch.Generator | None = None
) -> InferenceGap:
    """How far the forward pass is from the expectations that it approximates.

    Args:
        graph: a network as a chain graph.
        x: inputs.
        samples: per input, half of which also give the noise.
        generator: source of the samples.
    """
    half = max(1, samples // 2)
    forward = graph.infer(x)
    halves = [graph.infer(x, "sampled", samples=half, generator=generator) for _ in range(2)]
    truth = (halves[0] + halves[1]) / 2
    means = graph.layer_means(x)
    sampled = graph.layer_means(x, graph.hidden, samples=half, generator=generator)
    errors = {n: float((means[n] - sampled[n]).square().double().mean().sqrt()) for n in graph.hidden}
    discrete = type(graph.output_node).__name__ in ("Categorical", "TwoValued")
    scale = 0.5 if type(graph.output_node).__name__ == "Categorical" else 1.0

    def apart(a: Tensor, b: Tensor) -> float:
        return float((a - b).abs().flatten(1).sum(1).double().mean()) * scale

    divergence, confidence = math.nan, (math.nan, math.nan)
    if discrete and scale == 0.5:
        ratio = truth.clamp_min(1e-12).log() - forward.clamp_min(1e-12).log()
        divergence = float((truth * ratio).sum(1).double().mean())
        confidence = (float(forward.amax(1).double().mean()), float(truth.amax(1).double().mean()))
    return InferenceGap(errors, apart(forward, truth), divergence, apart(*halves) / 2, confidence)
