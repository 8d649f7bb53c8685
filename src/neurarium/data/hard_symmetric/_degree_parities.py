"""Parities of how many nodes of a graph have given degrees."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurarium.data.hard_symmetric._target import SymmetricTarget

SMALLEST = 3
"""Degree of the first star's hub: leaves have degree 1, isolated nodes 0."""


class DegreeParityNet(nn.Module):
    """A graph network of one layer that aggregates ones: degrees, their indicators by rectifiers, a sum, its parity.

    Args:
        degrees: which degrees count.
        most: largest count that can occur; beyond it the sawtooth ends.
    """

    def __init__(self, degrees: Sequence[int], most: int) -> None:
        super().__init__()
        self.register_buffer("degrees", torch.tensor(list(degrees), dtype=torch.float32))
        self.register_buffer("teeth", torch.arange(1, max(most, 1), dtype=torch.float32))
        self.register_buffer("slopes", 4 * (-1) ** (self.get_buffer("teeth") + 1))
        self.degrees: Tensor
        self.teeth: Tensor
        self.slopes: Tensor

    def forward(self, adjacency: Float[Tensor, "batch nodes nodes"]) -> Float[Tensor, " batch"]:
        """+1 where an even number of nodes has one of the degrees, -1 where an odd one has."""
        away = adjacency.sum(2, keepdim=True) - self.degrees
        hat = (away + 1).relu() - 2 * away.relu() + (away - 1).relu()  # 1 at the degree, 0 at every other
        count = hat.sum((1, 2))
        return 1 - 2 * count + ((count[:, None] - self.teeth).relu() * self.slopes).sum(1)


def degree_parity(subset: Sequence[int], bits: int, nodes: int | None = None) -> SymmetricTarget:
    """The parity of the bits in a subset, a bit being whether a star of its own degree is in the graph.

    A graph is a disjoint union of stars whose hubs have degrees 3, 4, ..., each there with probability ½, and of
    isolated nodes. All 2^bits parities are then exactly orthonormal: a family that is exponential in the number of
    nodes' square root (arXiv 2401.01869, section 3, in a form that can be run).

    Args:
        subset: which bits, from 0.
        bits: number of stars.
        nodes: of every graph; as many as all stars need by default.

    Returns:
        Inputs are adjacency matrices [batch, nodes, nodes] of zeros and ones.

    Raises:
        ValueError: a bit out of range or twice, or too few nodes.
    """
    chosen = sorted(subset)
    if len(set(chosen)) < len(chosen) or (chosen and (chosen[0] < 0 or chosen[-1] >= bits)):
        raise ValueError(f"subset must hold different bits from 0 to {bits - 1}, not {list(subset)}")
    needed = sum(SMALLEST + 1 + i for i in range(bits))
    total = needed if nodes is None else nodes
    if total < needed or bits < 1:
        raise ValueError(f"nodes must be at least {needed} for {bits} stars, not {nodes}")
    owner = torch.full((total, total), bits)  # which star an edge belongs to; one more for no edge
    hub = 0
    for i in range(bits):
        leaves = slice(hub + 1, hub + 1 + SMALLEST + i)
        owner[hub, leaves] = owner[leaves, hub] = i
        hub += SMALLEST + 1 + i

    def sample(count: int, generator: torch.Generator | None = None) -> Tensor:
        device = generator.device if generator else None
        there = torch.randint(2, (count, bits), generator=generator, device=device).float()
        padded = torch.cat([there, there.new_zeros(count, 1)], 1)
        return padded[:, owner.to(there.device)]

    network = DegreeParityNet([SMALLEST + i for i in chosen], len(chosen))
    return SymmetricTarget(sample, network, f"parity of {len(chosen)} of {bits} degrees")


def degree_counts(adjacency: Float[Tensor, "batch nodes nodes"], bits: int) -> Int[Tensor, "batch bits"]:
    """How many nodes have degree 3, 4, ...: the bits of `degree_parity`.

    Args:
        adjacency: of the graphs.
        bits: how many degrees.
    """
    degrees = adjacency.sum(2)
    return (degrees[:, :, None] == SMALLEST + torch.arange(bits, device=adjacency.device)).sum(1)
