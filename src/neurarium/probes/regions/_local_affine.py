"""The affine map that a piecewise-linear network is around an example, and the cell on which it is that map."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult
from neurarium.probes.regions._affine_network import AffineNetwork, Bend
from neurarium.probes.regions._polyhedron import Polyhedron


@dataclass(frozen=True)
class LocalAffine(ProbeResult):
    """The network at some examples: ``outputs = matrix @ x.flatten() + offset`` on each one's cell.

    Args:
        matrix: [examples, outputs, dimensions].
        offset: [examples, outputs].
        cells: where each map holds; a row for every question of the network that both answers have.
        margin: distance from each example to the nearest side of its cell; 0 on a border.
        x: the examples, flattened.
    """

    matrix: Float[Tensor, "examples outputs dimensions"]
    offset: Float[Tensor, "examples outputs"]
    cells: tuple[Polyhedron, ...]
    margin: Float[Tensor, " examples"]
    x: Float[Tensor, "examples dimensions"]

    @property
    def outputs(self) -> Float[Tensor, "examples outputs"]:
        """What the network gives."""
        return torch.einsum("eod,ed->eo", self.matrix, self.x) + self.offset

    @functools.cached_property
    def distinct(self) -> int:
        """How many different maps there are among the examples."""
        table = torch.cat([self.matrix.flatten(1), self.offset], 1)
        return len(torch.unique((table / table.abs().amax().clamp_min(1e-300) * 1e9).round(), dim=0))

    def irredundant(self, example: int = 0) -> Polyhedron:
        """The cell of an example without the rows that others imply (one linear programme for most of these)."""
        cell = self.cells[example]
        inside = self.x[example] if float(self.margin[example]) > 1e-7 else None
        kept = cell.irredundant(inside)
        return Polyhedron(cell.normals[kept], cell.offsets[kept], cell.shape)

    def summary(self) -> str:
        """How many maps, and how far the examples are from where the map changes."""
        rows = sum(len(cell.offsets) for cell in self.cells) / len(self.cells)
        near, middle = float(self.margin.min()), float(self.margin.median())
        return (
            f"{self.distinct} different affine maps at {len(self.x)} examples; each cell is cut by "
            f"{rows:.0f} half-spaces; distance to the nearest border {middle:.3g} (median), {near:.3g} at least"
        )

    def plot(self, ax: Any) -> Any:
        """Distance of the examples to the nearest border, as a share of examples that are nearer."""
        distance = self.margin.sort().values
        ax.plot(distance, torch.arange(1, len(distance) + 1) / len(distance), drawstyle="steps-post")
        ax.set(xlabel="distance to the nearest border", ylabel="share of examples", ylim=(0, 1))
        return ax


def local_affine(model: nn.Module, x: Float[Tensor, "examples ..."]) -> LocalAffine:
    """A piecewise-linear network's affine map and cell at each example (Aytekin, 2022), one path of its tree each.

    Nothing is fitted or sampled: inside the cell the map is the network, in double precision. The network is taken in
    evaluation mode; convolutions, skips, batch norm, pooling, and activations with pieces are known.

    Args:
        model: any module that `torch.fx` can trace and that is linear in pieces.
        x: a batch of examples.

    Raises:
        ValueError: no examples, or the network is not linear in pieces; the message names where.
    """
    if len(x) == 0 or x.dim() < 2:
        raise ValueError("x must be a batch of at least one example")
    network = AffineNetwork(model, tuple(x.shape[1:]))
    flat = x.detach().cpu().double().flatten(1)
    found = [_at(network, row) for row in flat]
    matrix, offset, cells = (tuple(parts) for parts in zip(*found))
    margin = torch.stack([cell.slack(row[None])[0].amin().clamp_min(0) if len(cell.offsets) else torch.tensor(torch.inf)
                          for cell, row in zip(cells, flat)]).double()  # fmt: skip
    return LocalAffine(torch.stack(matrix), torch.stack(offset), cells, margin, flat)


def _at(network: AffineNetwork, x: Tensor) -> tuple[Tensor, Tensor, Polyhedron]:
    """Matrix, offset and cell at one input."""
    state, at = network.start(), 0
    one = torch.cat([torch.ones(1, dtype=torch.float64), x])
    normals: list[Tensor] = [torch.zeros(0, len(x), dtype=torch.float64)]
    ends: list[Tensor] = [torch.zeros(0, dtype=torch.float64)]
    while True:
        at, found = network.walk(state, at)
        if not isinstance(found, Bend):
            return found.rows[1:].T.contiguous(), found.rows[0], Polyhedron(torch.cat(normals), torch.cat(ends),
                                                                           network.shape)  # fmt: skip
        rules, choice = (_largest if found.maximum is not None else _piece)(found, one @ found.forms)
        normals.append(rules[1:].T)  # rule: value at 0 plus slopes @ x is not positive
        ends.append(-rules[0])
        state[network.nodes[at]] = found.settled(choice)


def _piece(bend: Bend, z: Tensor) -> tuple[Tensor, Tensor]:
    """The rules and the piece of each unit of an activation."""
    assert bend.pieces is not None
    breaks = bend.pieces.breaks
    choice = torch.bucketize(z, breaks)  # at a break: the lower piece
    last = len(breaks)
    above, below = choice > 0, choice < last
    lower, upper = -bend.forms[:, above], bend.forms[:, below].clone()
    lower[0] += breaks[choice[above] - 1]
    upper[0] -= breaks[choice[below]]
    rules = torch.cat([lower, upper], 1)
    return rules[:, rules[1:].any(0)], choice


def _largest(bend: Bend, z: Tensor) -> tuple[Tensor, Tensor]:
    """The rules and the largest candidate of each window."""
    assert bend.maximum is not None
    windows = bend.maximum.windows
    values = z[windows].masked_fill(windows < 0, -torch.inf)
    choice = windows.gather(1, values.argmax(1, keepdim=True)).squeeze(1)
    others = (windows >= 0) & (windows != choice[:, None])
    winner = choice[:, None].expand_as(windows)[others]
    rules = bend.forms[:, windows[others]] - bend.forms[:, winner]
    return rules[:, rules[1:].any(0)], choice
