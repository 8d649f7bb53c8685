"""Neurons and edges put down layer by layer: what `neural_graph` builds with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurarium.models.weights._neuron_graph import KINDS, SLOTS, NeuralGraph

KIND = {name: number for number, name in enumerate(KINDS)}


class LayoutError(ValueError):
    """A module whose neurons cannot be told."""


class GraphBuilder:
    """Hands out nodes, turns weights into edges, and keeps account of which parameters have theirs.

    Nodes are 1-D tensors of numbers; weights come as tensors of *places* in the flat parameter vector (`places`), so
    that splitting, transposing and reshaping them is what torch does with any tensor.

    Args:
        module: its `named_parameters` give the order of the vector; a tied tensor is there once.
    """

    def __init__(self, module: nn.Module) -> None:
        self.names: dict[int, str] = {}
        self.offsets: dict[int, int] = {}
        self.count = 0
        for name, parameter in module.named_parameters():
            self.names[id(parameter)] = name
            self.offsets[id(parameter)] = self.count
            self.count += parameter.numel()
        self.open = set(self.offsets)
        self.unknown: list[str] = []
        self.tokens: list[Tensor] = []
        self.next_node = 0
        self.sources: list[Tensor] = []
        self.targets: list[Tensor] = []
        self.kinds: list[Tensor] = []
        self.entries: list[Tensor] = []

    def nodes(self, count: int, *, tokens: bool = False) -> Tensor:
        """New neurons; with ``tokens`` the inputs of a token embedding."""
        self.next_node += count
        self.tokens.append(torch.arange(1, count + 1) if tokens else torch.zeros(count, dtype=torch.long))
        return torch.arange(self.next_node - count, self.next_node)

    def places(self, parameter: Tensor | None) -> Tensor | None:
        """Where a parameter's entries lie in the vector, in its own shape; None if it has its edges already."""
        if parameter is None or id(parameter) not in self.open:
            return None
        self.open.discard(id(parameter))
        start = self.offsets[id(parameter)]
        return torch.arange(start, start + parameter.numel()).view(parameter.shape)

    def weight(self, places: Tensor | None, sources: Tensor, targets: Tensor, kind: str) -> None:
        """Edges from every source to every target.

        Args:
            places: [targets, sources, ...]; what is behind the first two dimensions is one kernel, nine entries to an
                edge, the rest on parallel ones. None for a tied weight.
        """
        if places is None:
            return
        flat = places.reshape(len(targets) * len(sources), -1)
        for part in flat.split(SLOTS, dim=1):
            self._edges(sources.repeat(len(targets)), targets.repeat_interleave(len(sources)), part, kind)

    def vector(self, places: Tensor | None, targets: Tensor, kind: str) -> None:
        """One new node with an edge to every target: a bias, or the factors of a norm."""
        if places is not None:
            self._edges(self.nodes(1).expand(len(targets)), targets, places.reshape(-1, 1), kind)

    def joined(self, sources: Tensor, targets: Tensor, kind: str) -> None:
        """Structural edges, pair by pair; they carry the constant 1."""
        self._edges(sources, targets, torch.full((len(targets), 1), self.count + 1), kind)

    def alone(self, parameter: Tensor) -> None:
        """A tensor nobody knows the neurons of: edges between neurons of its own."""
        places = self.places(parameter)
        if places is not None and places.numel():
            if places.dim():  # one number for a whole layer belongs to no neuron
                self.unknown.append(self.names[id(parameter)])
            if places.dim() < 2:
                self.vector(places.reshape(-1), self.nodes(places.numel()), "bias")
            else:
                self.weight(places, self.nodes(places.shape[1]), self.nodes(places.shape[0]), "bias")

    def state(self) -> tuple[set[int], int, int, int]:
        """Where the building is, for `back`."""
        return set(self.open), self.next_node, len(self.tokens), len(self.sources)

    def back(self, state: tuple[set[int], int, int, int]) -> None:
        """Forget what was put down since."""
        self.open, self.next_node, tokens, edges = set(state[0]), *state[1:]
        del self.tokens[tokens:]
        for parts in (self.sources, self.targets, self.kinds, self.entries):
            del parts[edges:]

    def remaining(self) -> list[str]:
        """Names of the parameters without edges."""
        return [self.names[i] for i in self.offsets if i in self.open]

    def graph(self) -> NeuralGraph:
        """What has been put down, with a self-loop at every node."""
        every = torch.arange(self.next_node)
        self._edges(every, every, torch.full((self.next_node, 1), self.count + 2), "self-loop")
        width = max(part.shape[1] for part in self.entries)
        padded = [nn.functional.pad(part, (0, width - part.shape[1]), value=self.count) for part in self.entries]
        edge_index = torch.stack([torch.cat(self.sources), torch.cat(self.targets)])
        return NeuralGraph(edge_index, torch.cat(self.kinds), torch.cat(padded), torch.cat(self.tokens), self.count)

    def _edges(self, sources: Tensor, targets: Tensor, entries: Tensor, kind: str) -> None:
        self.sources.append(sources)
        self.targets.append(targets)
        self.entries.append(entries)
        self.kinds.append(torch.full((len(targets),), KIND[kind]))
