"""A matrix and a bias for every ordered pair of nodes of a graph (BriLLM; Zhao et al., 2025, arXiv 2503.11299)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import embedding, one_hot

BLOCK_NODES = 128  # up to so many nodes one product of all edges is faster than those that are needed, one by one
LARGEST = 2**33  # numbers


@dataclass(frozen=True)
class SharedEdges:
    """Which edges have a matrix of their own.

    Args:
        slots: of each edge (source, target) the number of its matrix; that of slot 0 may be shared.
    """

    slots: Int[Tensor, "nodes nodes"]

    @staticmethod
    def from_counts(counts: Int[Tensor, "nodes nodes"], below: int = 1) -> SharedEdges:
        """Edges that occur less often than ``below`` share slot 0, the others have one each.

        Args:
            counts: how often the target follows the source.
            below: number of occurrences that earns a matrix.

        Raises:
            ValueError: ``counts`` is not square.
        """
        if counts.dim() != 2 or counts.shape[0] != counts.shape[1]:
            raise ValueError(f"counts must be square, not {list(counts.shape)}")
        own = (counts >= below).flatten()
        slots = own.cumsum(0) * own if not own.all() else torch.arange(len(own), device=own.device)
        return SharedEdges(slots.view(counts.shape))


class EdgeMatrices(nn.Module):
    """``x W_uv + b_uv`` along the edges from nodes u, for all targets v or for some.

    Args:
        nodes: nodes of the graph; every ordered pair is an edge, a node with itself too.
        width: of the vectors.
        shared: which edges have a matrix of their own; all by default.
        sparse: gradients as sparse tensors where single edges are asked for, for optimizers that take them.
        device: where the parameters live.
        dtype: their type.

    Raises:
        ValueError: a size below 1, a map for another number of nodes, or more parameters than can be held.
    """

    def __init__(
        self,
        nodes: int,
        width: int,
        shared: SharedEdges | None = None,
        sparse: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if min(nodes, width) < 1:
            raise ValueError(f"nodes and width must be at least 1, not {nodes} and {width}")
        if shared is not None and shared.slots.shape != (nodes, nodes):
            raise ValueError(f"shared is a map of {list(shared.slots.shape)} edges, but there are {nodes} nodes")
        slots = shared.slots if shared is not None else torch.arange(nodes * nodes).view(nodes, nodes)
        count = int(slots.max()) + 1
        if count * (width**2 + width) > LARGEST:
            size = f"{count * (width**2 + width) / 1e9:.1f} billion parameters"
            raise ValueError(f"{nodes} nodes of width {width} make {size}: share edges or lower width")
        self.nodes, self.width, self.sparse = nodes, width, sparse
        self.weight = nn.Parameter(torch.empty(count, width * width, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(count, width, device=device, dtype=dtype))
        self.register_buffer("slots", slots.to(device))
        self.slots: Tensor
        for p in self.parameters():
            nn.init.uniform_(p, -0.5, 0.5)

    @property
    def matrices(self) -> Float[Tensor, "slots width width"]:
        """One for each slot."""
        return self.weight.unflatten(-1, (self.width, self.width))

    def block_matrix(self) -> Float[Tensor, "rows columns"] | None:
        """All edges as one matrix, row (u, input) and column (v, output); None where there are too many nodes.

        Give it to `forward` where that is called several times with the same weights.
        """
        if self.nodes > BLOCK_NODES:
            return None
        return self.matrices[self.slots].transpose(1, 2).reshape(self.nodes * self.width, -1)

    def forward(
        self,
        x: Float[Tensor, "batch width"],
        source: Int[Tensor, " batch"],
        targets: Int[Tensor, "batch some"] | None = None,
        block: Float[Tensor, "rows columns"] | None = None,
    ) -> Float[Tensor, "batch targets width"]:
        """What arrives at the targets.

        Args:
            x: one vector for each example.
            source: the node where it is.
            targets: nodes to go to; all of them by default.
            block: what `block_matrix` gave.
        """
        if targets is not None:
            slots = self.slots[source[:, None], targets]
            weight = embedding(slots, self.weight, sparse=self.sparse).unflatten(-1, (self.width, -1))
            return (x[:, None, None] @ weight)[:, :, 0] + embedding(slots, self.bias, sparse=self.sparse)
        if block is None:
            block = self.block_matrix()
        if block is None:
            return self._by_source(x, source)
        rows = (one_hot(source, self.nodes).to(x.dtype)[..., None] * x[:, None]).flatten(1)
        return (rows @ block).unflatten(-1, (self.nodes, -1)) + self.bias[self.slots[source]]

    def add_nodes(self, count: int, generator: torch.Generator | None = None) -> None:
        """Append nodes with edges of their own, drawn as at the start; what is there stays bit for bit.

        Parameters are replaced by longer ones: make optimizers anew.

        Args:
            count: nodes to add.
            generator: of the new numbers; on the CPU.

        Raises:
            ValueError: ``count`` is below 1.
        """
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        nodes, known = self.nodes + count, len(self.weight)
        slots = self.slots.new_full((nodes, nodes), -1)
        slots[: self.nodes, : self.nodes] = self.slots
        fresh = slots < 0
        slots[fresh] = torch.arange(known, known + int(fresh.sum()), device=slots.device)
        self.nodes, self.slots = nodes, slots
        for name, p in list(self.named_parameters()):
            new = torch.rand(int(fresh.sum()), *p.shape[1:], generator=generator) - 0.5
            setattr(self, name, nn.Parameter(torch.cat([p.detach(), new.to(p)]), p.requires_grad))

    def _by_source(self, x: Tensor, source: Tensor) -> Tensor:
        """Products with the edges of the sources that occur, each source once."""
        found = x.new_empty(len(x), self.nodes, self.width)
        for node in source.unique().tolist():
            rows = (source == node).nonzero()[:, 0]
            slots = self.slots[node]
            arrived = x[rows] @ self.matrices[slots] + self.bias[slots][:, None]  # [nodes, rows, width]
            found = found.index_copy(0, rows, arrived.transpose(0, 1).to(found.dtype))
        return found
