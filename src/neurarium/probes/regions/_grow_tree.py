"""The decision tree that a piecewise-linear network is (Aytekin, 2022), without the branches that no input reaches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from neurarium.probes.regions._affine_network import AffineNetwork, Bend, Form
from neurarium.probes.regions._cells import Cell, HalfSpaces, cell_of
from neurarium.probes.regions._maxima import Maximum
from neurarium.probes.regions._network_tree import Leaf, NetworkTree
from neurarium.probes.regions._pieces import Pieces
from neurarium.probes.regions._polyhedron import Polyhedron
from neurarium.probes.regions._questions import Questions, questions_of

Domain = Polyhedron | Sequence[float] | Sequence[Tensor]


def decision_tree(
    model: nn.Module,
    domain: Domain,
    *,
    decisions: Literal["argmax"] | None = None,
    pieces: int | None = None,
    limits: tuple[float, float] = (-6.0, 6.0),
    max_leaves: int = 100_000,
) -> NetworkTree:
    """The decision tree with affine leaves that a piecewise-linear network is, on a domain (Aytekin, 2022, alg. 1).

    Unit by unit the tree asks on which piece of its activation a unit is; a branch that no ball of the domain can reach
    is not grown, and a question with one answer is not asked. Nothing is fitted: tree and network are one function.
    One- and two-dimensional domains need no linear programme, others one at most for each question.

    Args:
        model: any module of one input that `torch.fx` can trace and that is linear in pieces, in evaluation mode:
            linear layers and convolutions, skips, batch norm, pooling, activations with pieces.
        domain: where the two have to agree: the corners of a box, of an input's shape; two numbers for a network that
            begins with a linear layer; or a `Polyhedron`, bounded or not.
        decisions: "argmax" goes on below each affine leaf until one class has the largest output (or the sign of the
            only output is known), and drops rules whose answers all lead to one class; leaves then hold a class.
        pieces: straight lines that stand for each activation that has no pieces (tangents beyond the limits); the tree
            is then exactly the network with these lines. Refused by default.
        limits: between which these lines run.
        max_leaves: give up beyond this many.

    Raises:
        ValueError: the network is not linear in pieces (the message names where), the domain is empty or does not fit,
            or the tree has more leaves than ``max_leaves``.
    """
    if decisions not in (None, "argmax"):
        raise ValueError(f"decisions must be 'argmax' or None, not {decisions!r}")
    if pieces is not None and pieces < 1:
        raise ValueError(f"pieces must be at least 1, not {pieces}")
    region = _domain(model, domain)
    network = AffineNetwork(model, region.shape, pieces, limits)
    growth = _Growth(network, cell_of(region), decisions == "argmax", max_leaves)
    growth.run()
    return growth.tree(region)


def _domain(model: nn.Module, domain: Domain) -> Polyhedron:
    if isinstance(domain, Polyhedron):
        return domain
    low, high = _pair(domain)
    if isinstance(low, Tensor) and isinstance(high, Tensor):
        return Polyhedron.box(low, high)
    first = next((m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))), None)
    if not isinstance(first, nn.Linear):
        sentence = "domain must be two corners of an input's shape for a network that begins with no nn.Linear"
        raise ValueError(sentence)  # noqa: TRY004
    return Polyhedron.box(torch.full((first.in_features,), float(low)), torch.full((first.in_features,), float(high)))


def _pair(domain: Any) -> tuple[Any, Any]:
    if len(domain) != 2:
        raise ValueError(f"domain must be a Polyhedron or a pair (low, high), not {len(domain)} values")
    return domain[0], domain[1]


class _Growth:
    """Grows depth first; a branch is a cell, the state of the walk, and the questions of the operation it stands at."""

    def __init__(self, network: AffineNetwork, cell: Cell, classes: bool, max_leaves: int) -> None:
        self.network, self.first, self.classes, self.max_leaves = network, cell, classes, max_leaves
        self.rules: list[tuple[np.ndarray, float]] = []
        self.children: list[list[int]] = []  # a leaf is ~ its place
        self.cells: list[Cell] = []
        self.leaves: list[Leaf] = []
        self.naive = 1.0
        self.questions = self.asked = 0
        self.counted: set[str] = set()
        self.root = -1

    def run(self) -> None:
        """Grow the whole tree."""
        stack: list[tuple[int, int, _Branch]] = [(-1, 0, _Branch(self.first, self.network.start()))]
        while stack:
            parent, side, branch = stack.pop()
            rule = self._advance(branch)
            if rule is None:
                place = ~len(self.leaves)
                self.leaves.append(branch.leaf())
                if len(self.leaves) > self.max_leaves:
                    raise ValueError(
                        f"the tree has more than max_leaves={self.max_leaves:,} leaves ({len(stack)} branches were "
                        "still to grow); raise it, take a smaller domain, or look at single examples with local_affine"
                    )  # fmt: skip
            else:
                place = len(self.rules)
                self.rules.append(rule)
                self.children.append([0, 0])
                self.cells.append(branch.cell)
                below, above = branch.parts
                stack += [(place, 1, above), (place, 0, below)]
            if parent >= 0:
                self.children[parent][side] = place
            else:
                self.root = place
        if self.classes:
            self._merge()

    def _merge(self) -> None:
        """Drop every rule whose two answers lead to one class."""
        now: dict[int, int] = {}  # a rule that went -> the leaf in its place
        for k in reversed(range(len(self.rules))):  # what is below a rule comes after it
            below, above = (now.get(place, place) for place in self.children[k])
            self.children[k] = [below, above]
            if below < 0 and above < 0 and self.leaves[~below].decision == self.leaves[~above].decision:
                now[k] = ~len(self.leaves)
                self.leaves.append(replace(self.leaves[~below], cell=self.cells[k]))
        rules, children, leaves = self.rules, self.children, self.leaves
        self.rules, self.children, self.leaves = [], [], []

        def keep(place: int) -> int:
            if place < 0:
                self.leaves.append(leaves[~place])
                return ~(len(self.leaves) - 1)
            new = len(self.rules)
            self.rules.append(rules[place])
            self.children.append([0, 0])
            waiting.extend((new, side, child) for side, child in enumerate(children[place]))
            return new

        waiting: list[tuple[int, int, int]] = []
        self.root = keep(now.get(self.root, self.root))
        while waiting:
            parent, side, child = waiting.pop()
            self.children[parent][side] = keep(child)

    def _advance(self, branch: _Branch) -> tuple[np.ndarray, float] | None:
        """Go on to the next question with two answers; None at a leaf."""
        while True:
            if branch.questions is None:
                branch.at, found = self.network.walk(branch.state, branch.at)
                if isinstance(found, Form):
                    branch.output = found
                    if not self.classes:
                        return None
                    bend = _class_question(found)
                    self._count(bend, "classes")
                    branch.questions = questions_of(bend, branch.cell)
                else:
                    self._count(found, str(branch.at))
                    branch.questions = questions_of(found, branch.cell)
            asked = branch.questions.next()
            if asked is None:
                choice = torch.from_numpy(branch.questions.choice())
                bend, branch.questions = branch.questions.bend, None
                if branch.output is not None:
                    branch.decision = int(choice[0])
                    return None
                branch.state[self.network.nodes[branch.at]] = bend.settled(choice)
                continue
            normal, shift = asked
            length = float(np.sqrt(normal @ normal))
            if length <= 1e-12:
                branch.questions.take(shift > 0)
                continue
            self.asked += 1
            below, above = branch.cell.split(normal / length, shift / length)
            if below is not None and above is not None:
                branch.parts = branch.fork(below, False), branch.fork(above, True)
                return normal / length, shift / length
            branch.cell = below or above or branch.cell
            branch.questions.take(above is not None)

    def _count(self, bend: Bend, place: str) -> None:
        """The size of the tree without cleaning, and the network's own comparisons; once for each operation."""
        if place in self.counted:
            return
        self.counted.add(place)
        self.questions += bend.questions
        if bend.maximum is not None:
            counts = (bend.maximum.windows >= 0).sum(1).tolist()
            self.naive *= float(np.prod([float(c) for c in counts]))
        elif bend.pieces is not None:
            self.naive *= float(len(bend.pieces.slopes)) ** bend.units

    def tree(self, domain: Polyhedron) -> NetworkTree:
        """The result."""
        d = self.network.dimensions
        normals = np.array([n for n, _ in self.rules]).reshape(-1, d)
        shifts = np.array([s for _, s in self.rules])
        return NetworkTree(
            torch.from_numpy(normals), torch.from_numpy(shifts),
            torch.tensor(self.children, dtype=torch.long).reshape(-1, 2), self.root, tuple(self.leaves), domain,
            self.classes, self.naive, self.questions, self.asked,
            self.first.programmes[0] if isinstance(self.first, HalfSpaces) else 0, self.network.error,
            self.network.model,
        )  # fmt: skip


class _Branch:
    """Where the growth of one branch stands."""

    parts: tuple[_Branch, _Branch]

    def __init__(self, cell: Cell, state: dict[Any, Any]) -> None:
        self.cell, self.state, self.at = cell, state, 0
        self.questions: Questions | None = None
        self.output: Form | None = None
        self.decision: int | None = None

    def fork(self, cell: Cell, answer: bool) -> _Branch:
        """The branch below one answer."""
        branch = _Branch(cell, dict(self.state))
        branch.at, branch.output = self.at, self.output
        assert self.questions is not None
        branch.questions = self.questions.copy()
        branch.questions.take(answer)
        return branch

    def leaf(self) -> Leaf:
        """The leaf that it ended in."""
        assert self.output is not None
        rows = self.output.rows
        if self.decision is not None:
            rows = rows[:, :0]
        return Leaf(rows[1:].T.contiguous(), rows[0].clone(), self.decision, self.cell)


def _class_question(output: Form) -> Bend:
    """Which output is largest, or whether the only one is positive, as one more operation that bends."""
    classes = output.rows.shape[1]
    if classes == 1:
        two = torch.zeros(2, 1, dtype=torch.float64)
        return Bend("classes", output.rows, (1,), Pieces(torch.zeros(1, dtype=torch.float64), two, two))
    return Bend("classes", output.rows, (1,), maximum=Maximum(output.rows, torch.arange(classes)[None], (1,)))
