"""Groups of units along the axes of tensors, merged where two axes turn out to be the same one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

Axis = tuple[tuple[int, int], ...]
"""Stretches ``(group, repeat)`` along one axis: the groups' units one after the other, each of them ``repeat`` long."""
Axes = tuple[Axis | None, ...]
"""One per dimension of a tensor; None where it has no units."""


class AxisGroups:
    """Which group the units along each axis of each tensor belong to, merged as a run goes on.

    Args:
        model: its parameters and buffers have names.
        keep: names of layers whose groups are never cut.
    """

    def __init__(self, model: nn.Module, keep: frozenset[str]) -> None:
        self.keep = keep
        self.names = {id(t): n for n, t in [*model.named_parameters(), *model.named_buffers()]}
        self.axes: dict[int, Axes] = {}
        self.alive: list[Tensor] = []  # an id is only good while its tensor lives
        self.parent: list[int] = []
        self.sizes: list[int] = []
        self.multiples: list[int] = []
        self.layers: list[list[str]] = []
        self.reasons: list[str] = []

    # groups

    def new(self, size: int, layer: str, reason: str = "") -> Axis:
        """A group of its own for the outputs of a layer."""
        self.parent.append(len(self.parent))
        self.sizes.append(size)
        self.multiples.append(1)
        self.layers.append([layer])
        self.reasons.append(reason or ("keep names it" if layer in self.keep else ""))
        return ((len(self.parent) - 1, 1),)

    def root(self, index: int) -> int:
        """The group that an index has been merged into."""
        while self.parent[index] != index:
            index = self.parent[index]
        return index

    def fix(self, axis: Axis | None, reason: str) -> None:
        """Keep all units along an axis."""
        for index, _ in axis or ():
            root = self.root(index)
            self.reasons[root] = self.reasons[root] or reason

    def fix_all(self, value: Any, reason: str) -> None:
        """Keep all units of every tensor in a nest."""
        if isinstance(value, Tensor):
            for axis in self.of(value):
                self.fix(axis, reason)
        elif isinstance(value, Mapping):
            self.fix_all(list(value.values()), reason)
        elif isinstance(value, (list, tuple)):
            for part in value:
                self.fix_all(part, reason)

    def tie(self, a: Axis | None, b: Axis | None, where: str) -> Axis | None:
        """Two axes that are the same one.

        Raises:
            ValueError: their units do not correspond and both are to be cut.
        """
        if a is None or b is None:
            self.fix(a or b, f"{where} joins it with something of fixed size")
            return a or b
        if [repeat for _, repeat in a] != [repeat for _, repeat in b] or any(
            self.sizes[self.root(i)] != self.sizes[self.root(j)] for (i, _), (j, _) in zip(a, b)
        ):
            if not all(self.reasons[self.root(i)] for i, _ in a + b):
                first, second = (", ".join(self.layers[self.root(i)][0] for i, _ in axis) for axis in (a, b))
                raise ValueError(
                    f"{where} joins units of {first} with units of {second} that do not correspond; "
                    f"name the layers in keep so that they stay whole"
                )
            return None
        for (i, _), (j, _) in zip(a, b):
            low, high = sorted((self.root(i), self.root(j)))
            if low != high:
                self.parent[high] = low
                self.multiples[low] = max(self.multiples[low], self.multiples[high])
                self.layers[low] += [name for name in self.layers[high] if name not in self.layers[low]]
                self.reasons[low] = self.reasons[low] or self.reasons[high]
        return a

    # tensors

    def of(self, tensor: Tensor) -> Axes:
        """The axes of a tensor. A parameter seen for the first time in a plain operation gets groups of its own."""
        known = self.axes.get(id(tensor))
        if known is not None:
            return known
        name = self.names.get(id(tensor))
        if isinstance(tensor, nn.Parameter) and name is not None:
            return self.set(tensor, tuple(self.new(size, name) if size > 1 else None for size in tensor.shape))
        return (None,) * tensor.dim()

    def set(self, tensor: Tensor, axes: Axes) -> Axes:
        """Remember the axes of a tensor."""
        self.alive.append(tensor)
        self.axes[id(tensor)] = axes
        return axes

    def weight(self, tensor: Tensor, axes: Axes, where: str) -> Axes:
        """The axes of a layer's weight, tied to those of its earlier use."""
        known = self.axes.get(id(tensor))
        if known is None:
            return self.set(tensor, axes)
        return self.set(tensor, tuple(self.tie(a, b, where) for a, b in zip(known, axes)))

    def layer(self, tensor: Tensor) -> str:
        """The name of the layer that a weight belongs to."""
        return self.names.get(id(tensor), "a tensor without a name").rpartition(".")[0]
