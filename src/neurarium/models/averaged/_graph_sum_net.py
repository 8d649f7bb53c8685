"""A graph network that adds up its neighbours, layer by layer, and all nodes in the end."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class GraphSumNet(nn.Module):
    """Isomorphism network (Xu et al., 2019) on adjacency matrices: h <- MLP(h + Σ neighbours), sum pooling, MLP.

    Args:
        width: of the nodes' states.
        outputs: numbers for each graph.
        layers: rounds of aggregation.
        features: numbers for each node; 0 for graphs without, whose nodes start at 1.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, width: int = 64, outputs: int = 1, layers: int = 1, features: int = 0) -> None:
        super().__init__()
        if min(width, outputs, layers) < 1 or features < 0:
            raise ValueError(f"width, outputs and layers must be at least 1, not {width}, {outputs} and {layers}")
        self.features = features
        sizes = [max(features, 1), *[width] * layers]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(a, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()) for a in sizes[:-1]
        )
        self.readout = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs))

    def forward(
        self, adjacency: Float[Tensor, "batch nodes nodes"], x: Float[Tensor, "batch nodes features"] | None = None
    ) -> Float[Tensor, "batch outputs"]:
        """Outputs for each graph."""
        if (x is None) != (self.features == 0):
            raise ValueError(f"this network takes {self.features} features for each node")
        h = adjacency.new_ones(*adjacency.shape[:2], 1) if x is None else x
        for layer in self.layers:
            h = layer(h + adjacency @ h)
        return self.readout(h.sum(1))
