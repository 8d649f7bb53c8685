"""Exact inference: all states of one hidden layer after the other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from neurarium.theory.chain_graph._layers import Layer
from neurarium.theory.chain_graph._moments import Moments
from neurarium.theory.chain_graph._nodes import TwoValued
from neurarium.theory.chain_graph._passes import Steps

if TYPE_CHECKING:
    from neurarium.theory.chain_graph._chain_graph import ChainGraph

MOST_UNITS = 20
MOST_ENTRIES = 2**26
"""Of the table of transitions between two layers' states that is held at a time."""


def enumerated(graph: ChainGraph, x: Tensor) -> Tensor:
    """Expectation of the output for every row, by sums over the states of each hidden layer in turn.

    Raises:
        ValueError: a hidden layer is not two-valued, too large, or has other parents than the layer before.
    """
    return torch.cat([_one(graph, row) for row in x.split(1)])


def _one(graph: ChainGraph, row: Tensor) -> Tensor:
    class Enumeration(Steps):
        """Rows are states of the last layer passed; ``weights`` are their log-probabilities."""

        weights = row.new_zeros(1)
        stage = 0

        def at_layer(self, layer: Layer, e: Moments) -> Moments:
            if e.stage != self.stage:
                raise ValueError(f"exact inference is for chains: {layer.name} has a parent before the last layer")
            if layer.name not in self.chain.hidden:
                return Moments(layer.node.mean(e.mean), stage=e.stage)
            states, self.weights = next_layer(layer, e.mean, self.weights)
            self.stage += 1
            return Moments(states, stage=self.stage)

        def dropped(self, layer: nn.Dropout, x: Moments) -> Moments:
            if layer.p:
                raise ValueError("exact inference does not sum over the coins of dropout: remove it")
            return x

    run = Enumeration(graph)
    e: Moments = run.run(Moments(row))
    if e.stage != run.stage:
        raise ValueError("exact inference is for chains: the output has a parent before the last layer")
    mean = graph.output_node.mean(e.mean) if graph.output else e.mean
    return (run.weights.exp()[:, None] * mean.flatten(1)).sum(0).reshape(1, *mean.shape[1:])


def next_layer(layer: Layer, e: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """All states of a layer, and their log-probabilities: sums over the states of the one before."""
    node, units = layer.node, e[0].numel()
    if not isinstance(node, TwoValued):
        raise ValueError(  # noqa: TRY004 - of the network that was given
            f"exact inference needs two-valued layers, and {layer.name} is {type(node).__name__}"
        )
    if units > MOST_UNITS:
        raise ValueError(f"{layer.name} has 2^{units} states, more than can be summed over (2^{MOST_UNITS})")
    number = torch.arange(2**units, device=e.device)[:, None]
    bits = ((number >> torch.arange(units, device=e.device)) & 1).to(e)
    width = node.high - node.low
    off = torch.nn.functional.logsigmoid(-width * e.flatten(1))  # [before, units]
    gain = width * e.flatten(1)  # log-odds: log p(on) - log p(off)
    part = max(1, MOST_ENTRIES // len(bits))
    total = torch.full((len(bits),), -math.inf).to(e)
    for rows in torch.arange(len(e), device=e.device).split(part):
        table = weights[rows][:, None] + off[rows].sum(1)[:, None] + gain[rows] @ bits.T
        total = torch.logaddexp(total, table.logsumexp(0))
    return (node.low + width * bits).reshape(len(bits), *e.shape[1:]), total
