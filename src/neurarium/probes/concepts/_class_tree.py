"""Trees of classes: the one that prototypes form by themselves, and what mistakes cost in the true one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurarium.probes._result import ProbeResult

ROOT = "root"
Edge = frozenset[str]


@dataclass(frozen=True)
class PrototypeTree(ProbeResult):
    """A tree over named prototypes and the root.

    Args:
        edges: pairs of names.
    """

    edges: frozenset[Edge]

    def edit_distance(self, parents: Mapping[str, str]) -> int:
        """Edges to remove plus edges to add to get the tree ``{node: parent}``; 0 for the same tree.

        Raises:
            ValueError: the trees have different nodes.
        """
        wanted = frozenset(frozenset(pair) for pair in parents.items())
        if {n for edge in self.edges for n in edge} != {n for edge in wanted for n in edge}:
            raise ValueError("the trees have different nodes")
        return len(self.edges ^ wanted)

    def parents(self) -> dict[str, str]:
        """The neighbour of each node on its way to the root."""
        found: dict[str, str] = {}
        frontier = [ROOT]
        while frontier:
            node = frontier.pop()
            for edge in self.edges:
                other = next(iter(edge - {node}))
                if node in edge and other != found.get(node):
                    found[other] = node
                    frontier.append(other)
        return found

    def summary(self) -> str:
        """Every node with its children."""
        children: dict[str, list[str]] = {}
        for node, parent in sorted(self.parents().items()):
            children.setdefault(parent, []).append(node)
        return "; ".join(f"{parent}: {', '.join(nodes)}" for parent, nodes in sorted(children.items()))

    def plot(self, ax: Any) -> Any:
        """Depth downwards, nodes of one depth side by side."""
        parents = self.parents()
        levels: dict[int, list[str]] = {0: [ROOT]}
        depth = {ROOT: 0}
        for node in sorted(parents, key=lambda n: self._depth(n, parents)):
            depth[node] = self._depth(node, parents)
            levels.setdefault(depth[node], []).append(node)
        where = {n: ((i + 0.5) / len(level), -d) for d, level in levels.items() for i, n in enumerate(level)}
        for node, parent in parents.items():
            ax.plot(*zip(where[node], where[parent], strict=True), color="0.6", zorder=0)
        for node, (x, y) in where.items():
            ax.annotate(node, (x, y), ha="center", va="center")
        ax.set_axis_off()
        return ax

    @staticmethod
    def _depth(node: str, parents: Mapping[str, str]) -> int:
        steps = 0
        while node != ROOT:
            node, steps = parents[node], steps + 1
        return steps


def prototype_tree(prototypes: Mapping[str, Tensor], names: Mapping[str, Sequence[str]] | None = None) -> PrototypeTree:
    """Minimum spanning tree of all prototypes and the origin, by Euclidean distance (arXiv 2205.13997, section 4.2).

    Args:
        prototypes: concept -> ``[classes, dim]``.
        names: concept -> names of its classes; ``"concept index"`` by default.

    Raises:
        ValueError: no prototypes, or names that do not fit.
    """
    if not prototypes:
        raise ValueError("prototypes must hold at least one concept")
    labels = [ROOT]
    for concept, points in prototypes.items():
        given = (names or {}).get(concept) or [f"{concept} {i}" for i in range(len(points))]
        if len(given) != len(points):
            raise ValueError(f"{concept!r} has {len(points)} prototypes but {len(given)} names")
        labels += given
    points = torch.cat([p.detach().double() for p in prototypes.values()])
    points = torch.cat([torch.zeros_like(points[:1]), points])
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    nearest, link = distances[0].clone(), torch.zeros(len(points), dtype=torch.long, device=points.device)
    nearest[0] = torch.inf
    edges = set()
    for _ in range(len(points) - 1):  # Prim's algorithm
        new = int(nearest.argmin())
        edges.add(frozenset((labels[new], labels[int(link[new])])))
        joined = nearest.isinf()
        closer = (distances[new] < nearest) & ~joined
        nearest[closer], link[closer] = distances[new][closer], new
        nearest[new] = torch.inf
    return PrototypeTree(frozenset(edges))


@dataclass(frozen=True)
class MistakeCost(ProbeResult):
    """How far off mistakes are.

    Args:
        average_cost: mean tree distance between predicted and true class over the mistakes; 0 where there are none.
        mistakes: how many.
        examples: of how many.
    """

    average_cost: float
    mistakes: int
    examples: int

    def summary(self) -> str:
        """The cost and the count."""
        return f"{self.mistakes} mistakes in {self.examples}, {self.average_cost:.2f} edges off on average"

    def plot(self, ax: Any) -> Any:
        """Share of mistakes, and their cost as its label."""
        ax.bar([f"cost {self.average_cost:.2f}"], [self.mistakes / self.examples])
        ax.set(ylabel="share of mistakes")
        return ax


def mistake_cost(predictions: Tensor, targets: Tensor, parents: Sequence[int]) -> MistakeCost:
    """Average cost of a classifier's mistakes in a two-level tree of classes.

    Two classes under one parent are 2 edges apart, others 4.

    Args:
        predictions: predicted classes ``[examples]``.
        targets: true classes ``[examples]``.
        parents: parent of each class.

    Raises:
        ValueError: numbers of examples differ.
    """
    if predictions.shape != targets.shape:
        raise ValueError(f"there are {len(predictions)} predictions for {len(targets)} targets")
    parent = torch.tensor(list(parents), device=targets.device)
    wrong = predictions != targets
    costs = torch.where(parent[predictions] == parent[targets], 2.0, 4.0)[wrong]
    return MistakeCost(float(costs.mean()) if len(costs) else 0.0, int(wrong.sum()), len(targets))
