"""What `decision_tree` returns: a tree that can be asked, read, drawn and counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult
from neurarium.probes.regions._cells import Cell
from neurarium.probes.regions._polyhedron import Polyhedron
from neurarium.training import prediction

CHUNK = 16_384


@dataclass(frozen=True, eq=False)
class Leaf:
    """A cell on which the network is ``matrix @ x + offset``, or decides for one class.

    Args:
        matrix: [outputs, dimensions]; no outputs in a tree of decisions.
        offset: [outputs].
        decision: the class, in a tree of decisions.
        cell: as the growth left it; `polyhedron` gives it in half-spaces.
    """

    matrix: Float[Tensor, "outputs dimensions"]
    offset: Float[Tensor, " outputs"]
    decision: int | None
    cell: Cell = field(repr=False)

    @property
    def polyhedron(self) -> Polyhedron:
        """The cell: rows of the domain, then the rules on the path."""
        return self.cell.polyhedron()

    @property
    def inside(self) -> Float[Tensor, " dimensions"]:
        """A point in the interior."""
        return torch.from_numpy(np.array(self.cell.inside))


@dataclass(frozen=True)
class TreeCost:
    """What a tree and its network take, counted as in the paper's table 1.

    A rule in d dimensions has d coefficients and a threshold (in one dimension the threshold alone), of which one can
    be scaled to 1: 2 (d - 1) multiplications and additions. An affine leaf takes 2 d for each output, a class nothing.

    Args:
        parameters: numbers in the tree.
        comparisons: of one prediction.
        multiply_adds: multiplications and additions of one prediction.
        network_parameters: numbers in the network.
        network_comparisons: questions of all its units.
        network_multiply_adds: multiplications and additions of its products.
    """

    parameters: int
    comparisons: float
    multiply_adds: float
    network_parameters: int
    network_comparisons: int
    network_multiply_adds: int


@dataclass(frozen=True, eq=False)
class NetworkTree(ProbeResult):
    """A network as a tree. Rule k asks whether ``normals[k] @ x + shifts[k] > 0``.

    Args:
        normals: [rules, dimensions], each of length 1.
        shifts: [rules].
        children: where the answers no and yes lead, [rules, 2]; leaf i is given as ~i.
        root: the first rule, or ~0 where there is one leaf.
        leaves: maps (or classes) and cells.
        domain: where tree and network agree.
        classes: whether leaves hold classes.
        naive: leaves of the tree without cleaning.
        questions: comparisons in one run of the network.
        tests: questions that were put while it grew.
        programmes: linear programmes that were solved.
        interpolation_error: largest distance between an activation and the straight lines that stand for it.
        network: the copy that it was grown from.
    """

    normals: Float[Tensor, "rules dimensions"]
    shifts: Float[Tensor, " rules"]
    children: Int[Tensor, "rules 2"]
    root: int
    leaves: tuple[Leaf, ...]
    domain: Polyhedron
    classes: bool
    naive: float
    questions: int
    tests: int
    programmes: int
    interpolation_error: float
    network: nn.Module = field(repr=False)

    def leaf_of(self, x: Tensor) -> Int[Tensor, " examples"]:
        """The leaf of every example.

        Raises:
            ValueError: an example has another shape or lies outside the domain.
        """
        flat = x.detach().cpu().double().flatten(1) if x.dim() > 1 else x.detach().cpu().double()[:, None]
        if flat.shape[1] != self.domain.dimensions:
            raise ValueError(f"x must have {self.domain.dimensions} numbers per example, not {flat.shape[1]}")
        outside = ~self.domain.contains(flat, 1e-6)
        if bool(outside.any()):
            raise ValueError(f"{int(outside.sum())} of {len(flat)} examples lie outside the domain of the tree")
        return torch.cat([self._descend(part) for part in flat.split(CHUNK)])

    def _descend(self, x: Tensor) -> Tensor:
        at = torch.full((len(x),), self.root)
        going = at >= 0
        while bool(going.any()):
            rows, rule = x[going], at[going]
            yes = torch.einsum("ed,ed->e", rows, self.normals[rule]) + self.shifts[rule] > 0
            at[going] = self.children[rule, yes.long()]
            going = at >= 0
        return ~at

    def predict(self, x: Tensor) -> Tensor:
        """Outputs [examples, outputs] in double precision, or classes [examples] from a tree of decisions.

        Args:
            x: examples within the domain, in the shape of the network's inputs.

        Raises:
            ValueError: as `leaf_of`.
        """
        leaf = self.leaf_of(x)
        if self.classes:
            return torch.tensor([int(leaf.decision or 0) for leaf in self.leaves])[leaf]
        flat = x.detach().cpu().double().reshape(len(leaf), -1)
        matrix = torch.stack([leaf.matrix for leaf in self.leaves])
        offset = torch.stack([leaf.offset for leaf in self.leaves])
        parts = [
            torch.einsum("eod,ed->eo", matrix[where], rows) + offset[where]
            for where, rows in zip(leaf.split(CHUNK), flat.split(CHUNK))
        ]
        return torch.cat(parts)

    @torch.no_grad()
    def verify(self, x: Tensor) -> float:
        """Largest distance between the tree's and the network's outputs (share of other classes, for decisions).

        The network is the one that it was grown from, in double precision; where straight lines stand for an
        activation, the distance is theirs.
        """
        found, flat = self.predict(x), x.detach().cpu().double()
        inputs = flat.reshape(-1, *self.domain.shape)
        output = torch.cat([prediction(self.network(part)).flatten(1) for part in inputs.split(CHUNK)])
        if not self.classes:
            return float((found - output).abs().max())
        wanted = output.argmax(1) if output.shape[1] > 1 else (output[:, 0] > 0).long()
        return float((found != wanted).double().mean())

    def depths(self) -> Int[Tensor, " leaves"]:
        """Comparisons on the way to each leaf."""
        depth = torch.zeros(len(self.leaves), dtype=torch.long)
        for place, level, _ in self._walk():
            if place < 0:
                depth[~place] = level
        return depth

    def _walk(self) -> Iterator[tuple[int, int, bool]]:
        """Every rule and leaf, its depth and the answer that leads to it; above before below, no before yes."""
        stack = [(self.root, 0, False)]
        while stack:
            place, level, answer = stack.pop()
            yield place, level, answer
            if place >= 0:
                no, yes = self.children[place].tolist()
                stack += [(yes, level + 1, True), (no, level + 1, False)]

    def rules(self, x: Tensor) -> Polyhedron:
        """The cell of one example, without the rules that others imply.

        Args:
            x: one example.
        """
        cell = self.leaves[int(self.leaf_of(x.reshape(1, -1))[0])].polyhedron
        kept = cell.irredundant()
        return Polyhedron(cell.normals[kept], cell.offsets[kept], cell.shape)

    def cost(self, data: Tensor | None = None) -> TreeCost:
        """What a prediction takes.

        Args:
            data: examples over which comparisons are averaged; default all leaves alike, as in the paper.
        """
        from torch.utils.flop_counter import FlopCounterMode

        d, outputs = self.domain.dimensions, len(self.leaves[0].offset)
        depths = self.depths().double()
        comparisons = float((depths if data is None else depths[self.leaf_of(data)]).mean())
        rule_size, leaf_size = (d + 1 if d > 1 else 1), (0 if self.classes else (d + 1) * outputs)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            self.network(torch.zeros(1, *self.domain.shape, dtype=torch.float64))
        return TreeCost(
            len(self.shifts) * rule_size + len(self.leaves) * leaf_size, comparisons,
            comparisons * 2 * (d - 1) + (0 if self.classes else 2 * d * outputs),
            sum(p.numel() for p in self.network.parameters()), self.questions, counter.get_total_flops(),
        )  # fmt: skip

    def to_text(self, digits: int = 4) -> str:
        """The tree as nested rules."""
        lines = []
        for place, level, answer in self._walk():
            if answer:
                lines.append("  " * (level - 1) + "else:")
            lead = "  " * level
            if place < 0:
                lines.append(lead + self._spoken_leaf(self.leaves[~place], digits))
            else:
                lines.append(f"{lead}if {affine(-self.normals[place], -float(self.shifts[place]), digits)} >= 0:")
        return "\n".join(lines)

    def _spoken_leaf(self, leaf: Leaf, digits: int) -> str:
        if leaf.decision is not None:
            return f"class {leaf.decision}"
        return ", ".join(affine(row, float(end), digits) for row, end in zip(leaf.matrix, leaf.offset))

    def summary(self) -> str:
        """Size and cost beside the network's."""
        cost = self.cost()
        about = f"; lines stand for activations, within {self.interpolation_error:.2g}"
        return (
            f"{len(self.leaves):,} leaves of {self.naive:.3g} without cleaning, {len(self.shifts):,} rules; "
            f"{cost.comparisons:.1f} comparisons and {cost.multiply_adds:.1f} multiply-adds a prediction "
            f"(network {cost.network_comparisons} and {cost.network_multiply_adds}), {cost.parameters:,} parameters "
            f"(network {cost.network_parameters:,}){about if self.interpolation_error else ''}"
        )

    def plot(self, ax: Any) -> Any:
        """One input: the function and its breaks. Two: the cells. More: how deep the leaves lie."""
        from neurarium.probes.regions._drawing import draw

        return draw(self, ax)


def affine(row: Tensor, end: float, digits: int) -> str:
    """An affine form as text."""
    names = ["x"] if len(row) == 1 else [f"x{i}" for i in range(len(row))]
    parts = [f"{value:+.{digits}g} {name}" for value, name in zip(row.tolist(), names) if value]
    return " ".join([*parts, f"{end:+.{digits}g}"]).lstrip("+")
