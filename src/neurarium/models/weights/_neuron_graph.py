"""A network as a graph of its neurons: every parameter an edge, nothing lost on the way there and back."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

SLOTS = 9
"""Parameters on one edge, at most: a 3 x 3 kernel. Further entries lie on parallel edges."""
POSITIONS = 8
"""Laplacian eigenvectors that tell neurons apart."""
KINDS = (
    "dummy", "linear", "bias", "convolution", "norm", "token embedding", "position embedding", "query", "key", "value",
    "residual", "head", "reserved", "self-loop", "reserved",
)  # fmt: skip
"""What an edge is, by its type's number; the numbers are those of the released networks."""


@dataclass(frozen=True)
class NeuralGraph:
    """Neurons as nodes, parameters as directed edges from the neuron they read to the neuron they feed.

    A bias or norm is a node of its own with an edge to every neuron of its layer. Residual, head and self-loop edges
    carry a constant and no parameter.

    Args:
        edge_index: source and target node of every edge.
        edge_type: its kind, a place in `KINDS`.
        entries: the parameters on it, places in the flat vector of `named_parameters`; past the ``parameters`` real
            ones three rows stand for the constants 0 (an empty slot), 1 (a structural edge) and 2 (a self-loop).
        tokens: per node 1 + the token's index if it is a token of an embedding, else 0; as many as there are nodes.
        parameters: number of parameters.
    """

    edge_index: Int[Tensor, "2 edges"]
    edge_type: Int[Tensor, edges]
    entries: Int[Tensor, "edges slots"]
    tokens: Int[Tensor, nodes]
    parameters: int

    def to_edges(self, states: Float[Tensor, "parameters context"]) -> Float[Tensor, "edges slots context"]:
        """Lay snapshots of the flat parameter vector, one a column, on the edges.

        Raises:
            ValueError: the number of rows is not that of the parameters.
        """
        if states.ndim != 2 or len(states) != self.parameters:
            raise ValueError(f"states must be [{self.parameters}, context], not of shape {tuple(states.shape)}")
        constants = torch.arange(3, device=states.device, dtype=states.dtype)[:, None].expand(3, states.shape[1])
        return torch.cat([states, constants])[self.entries.to(states.device)]

    def to_vector(self, edges: Shaped[Tensor, "edges slots *rest"]) -> Shaped[Tensor, parameters * rest]:
        """The flat parameter vector from the edges; what structural edges carry is dropped."""
        real = self.real.to(edges.device)
        vector = edges.new_empty(self.parameters, *edges.shape[2:])
        vector[self.entries.to(edges.device)[real]] = edges[real]
        return vector

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return len(self.tokens)

    @cached_property
    def real(self) -> Tensor:
        """Which slots hold a parameter: [edges, slots]."""
        return self.entries < self.parameters

    @cached_property
    def positions(self) -> Float[Tensor, "nodes positions"]:
        """Eigenvectors 2 to 9 of the graph's normalised Laplacian, edges undirected and unweighted (zeros past the
        last).

        Their signs are arbitrary, and so is the basis where eigenvalues coincide.
        """
        return laplacian_positions(self.edge_index, self.nodes)

    def subgraph(self, parameters: slice) -> NeuralGraph:
        """The part of the graph that holds a stretch of the parameter vector, which becomes the whole vector.

        Structural edges stay where both of their neurons do.
        """
        start, stop, _ = parameters.indices(self.parameters)
        inside = ((self.entries >= start) & (self.entries < stop)).any(1)
        kept = torch.zeros_like(self.tokens, dtype=torch.bool)
        kept[self.edge_index[:, inside].flatten()] = True
        inside |= ~self.real.any(1) & kept[self.edge_index].all(0)
        entries = self.entries[inside]
        entries = torch.where(entries < self.parameters, entries - start, entries - self.parameters + stop - start)
        places = kept.cumsum(0) - 1
        return NeuralGraph(
            places[self.edge_index[:, inside]], self.edge_type[inside], entries, self.tokens[kept], stop - start
        )

    def rewired(self, generator: torch.Generator) -> NeuralGraph:
        """The same edges between other neurons: sources and targets permuted over the edges that hold parameters."""
        edge_index = self.edge_index.clone()
        held = self.real.any(1).nonzero()[:, 0]
        for end in (0, 1):
            edge_index[end, held] = edge_index[end, held[torch.randperm(len(held), generator=generator)]]
        return dataclasses.replace(self, edge_index=edge_index)

    def kinds(self) -> dict[str, int]:
        """How many edges there are of each kind, by name."""
        numbers, counts = self.edge_type.unique(return_counts=True)
        return {KINDS[int(number)]: int(count) for number, count in zip(numbers, counts)}

    def __repr__(self) -> str:
        return f"NeuralGraph({self.nodes} nodes, {self.edge_index.shape[1]} edges, {self.parameters} parameters)"


def laplacian_positions(edge_index: Int[Tensor, "2 edges"], nodes: int) -> Float[Tensor, "nodes positions"]:
    """Nodes by the eigenvectors of the symmetrically normalised Laplacian that follow the first, smallest first.

    Edges count once and in both directions; self-loops do not count. Dense below 500 nodes, Lanczos above.
    """
    from scipy.sparse import coo_array, diags_array
    from scipy.sparse.linalg import eigsh

    source, target = edge_index[:, edge_index[0] != edge_index[1]].numpy()
    both = np.concatenate([source, target]), np.concatenate([target, source])
    adjacency = coo_array((np.ones(len(both[0])), both), shape=(nodes, nodes)).tocsr()
    adjacency.data[:] = 1.0
    degree = np.asarray(adjacency.sum(1)).clip(min=1.0)
    scale = diags_array(degree**-0.5)
    normalised = scale @ adjacency @ scale  # the Laplacian is 1 minus this: its smallest are our largest
    if nodes < 500:
        _, vectors = np.linalg.eigh(normalised.toarray())
    else:
        start = np.random.default_rng(0).standard_normal(nodes)
        values, vectors = eigsh(normalised, k=POSITIONS + 1, which="LA", v0=start, tol=1e-6)
        vectors = vectors[:, np.argsort(values)]
    found = vectors[:, ::-1][:, 1 : POSITIONS + 1]
    positions = np.zeros((nodes, POSITIONS), dtype=np.float32)
    positions[:, : found.shape[1]] = found
    return torch.from_numpy(positions)
