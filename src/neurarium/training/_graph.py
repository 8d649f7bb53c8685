"""What a tensor was computed from: a walk of autograd's graph."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor
from torch.autograd.graph import Node


def walk_graph(output: Tensor | Node | None) -> Iterator[Node]:
    """Every operation behind a tensor (or behind an operation of a graph) once, leaves included.

    A leaf, where a gradient is accumulated, has an attribute ``variable``: the tensor itself.
    """
    stack = [output.grad_fn if isinstance(output, Tensor) else output]
    seen: set[Node] = set()
    while stack:
        node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            stack += [below for below, _ in node.next_functions]


def graph_parameters(output: Tensor | Node | None) -> set[Tensor]:
    """The leaf tensors that a backward pass from ``output`` would reach."""
    return {node.variable for node in walk_graph(output) if hasattr(node, "variable")}


def graph_operations(output: Tensor | Node | None) -> set[Node]:
    """The operations behind ``output``, leaves left out: what two graphs share if a tensor of one is used in both."""
    return {node for node in walk_graph(output) if not hasattr(node, "variable")}
