"""Graph convolution on a fixed graph."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


def normalized_adjacency(edges: Tensor, num_nodes: int) -> Float[Tensor, "nodes nodes"]:
    """D^-1/2 (A + I) D^-1/2 of an undirected graph (Kipf and Welling, 2017, eq. 2).

    Args:
        edges: [2, edges] node indices, each edge once or twice.
        num_nodes: number of nodes.

    Raises:
        ValueError: an edge names a node that is not there.
    """
    if edges.numel() and not 0 <= int(edges.min()) <= int(edges.max()) < num_nodes:
        raise ValueError(f"edges must name nodes from 0 to {num_nodes - 1}")
    adjacency = torch.eye(num_nodes, device=edges.device)
    adjacency[edges[0], edges[1]] = adjacency[edges[1], edges[0]] = 1.0
    scale = adjacency.sum(1).rsqrt()
    return scale[:, None] * adjacency * scale


class GraphConvolution(nn.Module):
    """X -> A X W + b: a linear map of every node's features, averaged over its neighbours.

    Args:
        in_features: size of a node's input.
        out_features: size of a node's output.
        adjacency: normalised adjacency, dense or sparse; a buffer that is not saved with the weights. Without it every
            node is alone, and the layer is linear.
        bias: add b.
    """

    adjacency: Tensor | None

    def __init__(self, in_features: int, out_features: int, adjacency: Tensor | None = None, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        self.register_buffer("adjacency", adjacency, persistent=False)

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """Features of all nodes."""
        hidden = nn.functional.linear(x, self.linear.weight)
        if self.adjacency is not None:
            hidden = self.adjacency @ hidden
        return hidden if self.linear.bias is None else hidden + self.linear.bias
