"""Which edges and nodes of a Kolmogorov-Arnold network its outputs depend on, and what the edges look like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult

POINTS = 60


@dataclass(frozen=True)
class EdgeScores(ProbeResult):
    """Attribution from the outputs back.

    Args:
        edges: for each layer the score of every edge, [outputs, inputs].
        nodes: scores of the inputs, of each hidden layer's nodes, and of the outputs.
        sites: for each layer the points at which its curves are drawn, [points, inputs].
        curves: for each layer its edges at these points, [points, outputs, inputs].
        factors: for each layer how many of its last outputs are multiplied in pairs.
    """

    edges: tuple[Tensor, ...]
    nodes: tuple[Tensor, ...]
    sites: tuple[Tensor, ...]
    curves: tuple[Tensor, ...]
    factors: tuple[int, ...]

    def summary(self) -> str:
        """Shape, and how many edges carry something."""
        shape = "-".join(str(len(nodes)) for nodes in self.nodes)
        total = sum(e.numel() for e in self.edges)
        active = sum(int((e > 0.03).sum()) for e in self.edges)
        inputs = ", ".join(f"{score:.3g}" for score in self.nodes[0].tolist())
        return f"{shape}: {active} of {total} edges score above 0.03; scores of the inputs: {inputs}"

    def plot(self, ax: Any) -> Any:
        """The network from below to above, on every edge its curve, the darker the higher its score."""
        widest = max(e.numel() for e in self.edges)
        ax.set_axis_off()
        ax.set_xlim(-0.02, 1.02)
        ax.set_ylim(-0.1, 3 * len(self.edges) + 0.1)
        for level, scores in enumerate(self.nodes):
            for place in _spread(len(scores)):
                ax.plot([place], [3 * level], "o", color="black", markersize=5)
        for level, scores in enumerate(self.edges):
            outputs, inputs = scores.shape
            below, targets = _spread(inputs), self._targets(level)
            strongest = float(scores.max().clamp_min(1e-12))
            for count, place in enumerate(_spread(scores.numel())):
                i, j = divmod(count, outputs)
                alpha = float(torch.tanh(3 * scores[j, i] / strongest))
                if alpha < 0.02:
                    continue
                ax.plot([below[i], place], [3 * level, 3 * level + 1.1], color="black", alpha=alpha, lw=1)
                ax.plot([place, targets[j]], [3 * level + 1.9, 3 * level + 3], color="black", alpha=alpha, lw=1)
                half = min(0.06, 0.45 / widest)
                x, y = self.sites[level][:, i], self.curves[level][:, j, i]
                x = (x - x[0]) / (x[-1] - x[0]).clamp_min(1e-12) * 2 - 1
                y = (y - y.min()) / (y.max() - y.min()).clamp_min(1e-12)
                ax.plot((place + half * x).tolist(), (3 * level + 1.1 + 0.8 * y).tolist(), alpha=alpha, lw=1.5)
        return ax

    def _targets(self, level: int) -> list[float]:
        """Where the nodes are that a layer's outputs go to; two factors go to one node."""
        places, factors = _spread(len(self.nodes[level + 1])), self.factors[level]
        sums = len(self.edges[level]) - factors
        return places[:sums] + [places[sums + f // 2] for f in range(factors)]


def _spread(count: int) -> list[float]:
    return [(i + 0.5) / count for i in range(count)]


@torch.no_grad()
def edge_scores(model: nn.Module, x: Tensor) -> EdgeScores:
    """How much each edge and node of a `KAN` matters on a batch (KAN 2.0, section 4.1).

    All outputs together score 1. An edge's share of its node's score is its standard deviation by that of the node; a
    node's score is the sum over the edges that leave it.

    Args:
        model: a `KAN`.
        x: inputs [rows, inputs], at least two rows.

    Raises:
        TypeError: the model is not a `KAN`.
    """
    network: Any = model
    if not hasattr(model, "trace") or not hasattr(model, "products"):
        raise TypeError(f"edge_scores reads a KAN, not a {type(model).__name__}")
    values = network.trace(x)
    score = torch.full((values[-1].shape[1],), 1 / values[-1].shape[1], dtype=x.dtype, device=x.device)
    edges, nodes, sites, curves = [], [score], [], []
    for level in reversed(range(len(network.layers))):
        layer, given, products = network.layers[level], values[level], network.products[level + 1]
        plain = len(score) - products
        of_sums = torch.cat([score[:plain], score[plain:].repeat_interleave(2)])
        edge = layer.edge_std(given) * (of_sums / (layer(given).std(0) + 1e-4))[:, None]
        score = edge.sum(0)
        along = torch.linspace(0, 1, POINTS, dtype=x.dtype, device=x.device)[:, None]
        points = torch.lerp(given.amin(0), given.amax(0), along)
        edges.append(edge)
        nodes.append(score)
        sites.append(points)
        curves.append(layer.edges(points))
    factors = tuple(2 * p for p in network.products[1:])
    upwards = [tuple(t.cpu() for t in reversed(each)) for each in (edges, nodes, sites, curves)]
    return EdgeScores(upwards[0], upwards[1], upwards[2], upwards[3], factors)
