"""Pruning of Kolmogorov-Arnold networks by attribution."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, final

import torch
from torch import Tensor, nn

from neurarium.compression._compressor import Compressor
from neurarium.models import KAN
from neurarium.probes import edge_scores
from neurarium.training import unpack


@final
class KANPruning(Compressor):
    """Removes nodes, then edges, that the outputs hardly depend on (Liu et al. 2024, section 2.5.1).

    Hidden nodes leave the network and make it narrower; edges are masked. The mean of what is removed goes into a bias,
    so that nothing shifts. Every node keeps its strongest edge: no output is left without a path.

    Args:
        node: nodes that score less go; `neurarium.probes.edge_scores` tells the scores.
        edge: edges that score less go.

    Raises:
        ValueError: a threshold is negative.
    """

    def __init__(self, node: float = 0.01, edge: float = 0.03) -> None:
        if node < 0 or edge < 0:
            raise ValueError(f"node and edge must not be negative, not {node} and {edge}")
        self.node, self.edge = node, edge

    @staticmethod
    def example() -> KAN:
        """What the contract tries it on."""
        return KAN([8, 16, 3])

    @torch.no_grad()
    def compress(self, model: nn.Module, loader: Iterable[Any]) -> KAN:
        """A smaller copy.

        Args:
            model: a `KAN`; it is left untouched.
            loader: batches of its inputs; all are held at once.

        Raises:
            TypeError: the model is not a `KAN` of splines alone.
        """
        if not isinstance(model, KAN) or not all(hasattr(layer, "subset") for layer in model.layers):
            raise TypeError(f"KANPruning works on a KAN without symbolic edges, not on a {type(model).__name__}")
        like = next(model.parameters())
        x = torch.cat([unpack(batch)[0] for batch in loader]).to(like)
        smaller = copy.deepcopy(model)
        self._nodes(smaller, x, [scores >= self.node for scores in edge_scores(smaller, x).nodes])
        self._edges(smaller, x)
        leads_on = [layer.mask.any(0) for layer in smaller.layers[1:]]
        self._nodes(smaller, x, [torch.ones(0), *leads_on, torch.ones(0)])
        return smaller

    def _nodes(self, model: KAN, x: Tensor, keep: list[Tensor]) -> None:
        """Take hidden nodes out; ``keep`` says for inputs, hidden layers and outputs which stay (hidden ones count)."""
        scores = edge_scores(model, x).nodes
        values = model.trace(x)
        products = list(model.products)
        for level in range(1, len(model.layers)):
            stay = keep[level].to(x.device)
            stay[scores[level].argmax()] = True
            before, after = model.layers[level - 1], model.layers[level]
            removed = (after.edge_mean(values[level]) * ~stay).sum(1)
            plain = len(stay) - products[level]
            factors = stay[plain:].repeat_interleave(2)
            model.layers[level] = after.subset(inputs=stay)
            _shift(model.layers[level], removed)
            model.layers[level - 1] = before.subset(outputs=torch.cat([stay[:plain], factors]))
            products[level] = int(stay[plain:].sum())
        model.products = tuple(products)

    def _edges(self, model: KAN, x: Tensor) -> None:
        scores, values = edge_scores(model, x).edges, model.trace(x)
        for layer, score, given in zip(model.layers, scores, values, strict=False):
            score = score.to(x.device)
            stay = score >= self.edge
            stay[torch.arange(len(stay)), score.argmax(1)] = True
            _shift(layer, (layer.edge_mean(given) * ~stay).sum(1))
            layer.mask &= stay


def _shift(layer: Any, constant: Tensor) -> None:
    """Add a constant to a layer's outputs."""
    if layer.bias is None:
        layer.bias = nn.Parameter(torch.zeros_like(constant))
    layer.bias += constant
