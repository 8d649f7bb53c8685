"""A chain of blocks recorded in one forward pass, and the rounds of highway backpropagation on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.layers.residual._residual import Carry, ResidualBlock
from neurarium.training import graph_parameters


@dataclass(frozen=True)
class Link:
    """One block: the leaf that entered it, what came out with a graph that ends at the leaf, and its cheap path."""

    leaf: Tensor
    exit: Tensor
    carry: Carry

    def back(self, w: Tensor) -> Tensor:
        """w K: along the cheap path."""
        if callable(self.carry) and not isinstance(self.carry, Tensor):
            return self.carry(w)
        if isinstance(self.carry, float) and self.carry == 0:
            return torch.zeros_like(self.leaf)
        return w * self.carry


class Chain:
    """Blocks in the order in which a forward pass reached them.

    Args:
        gamma: share of every cheap path that counts as expensive.

    Attributes:
        stem: what the first block was given, with its graph; None if no block was reached.
        links: the blocks.
        leaves: what entered each block, and the last one's output as the rest of the network saw it.
    """

    def __init__(self, gamma: float) -> None:
        self.gamma = gamma
        self.stem: Tensor | None = None
        self.links: list[Link] = []
        self.leaves: list[Tensor] = []

    def run(self, block: nn.Module, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """A block's forward pass on a leaf; returns a leaf for the next."""
        leaf = self.enter(x)
        if isinstance(block, ResidualBlock):
            z = block.branch(leaf, *args, **kwargs)
            output = block.merge(leaf, z)
            with torch.no_grad():
                carry = block.carry(leaf, z)
        else:
            output, carry = type(block).forward(block, leaf, *args, **kwargs), 1.0
        if not isinstance(output, Tensor):
            raise TypeError(f"a block must return one tensor, but {type(block).__name__} gave {type(output).__name__}")
        if (isinstance(carry, Tensor) or not callable(carry)) and output.shape != leaf.shape:
            raise ValueError(
                f"{type(block).__name__} maps {tuple(leaf.shape)} to {tuple(output.shape)}: a residual block keeps the "
                "shape; leave this one out of blocks=[...], or use SpaceToDepthStage"
            )
        return self._close(output, carry)

    def enter(self, x: Tensor) -> Tensor:
        """The leaf for what comes in; whatever was computed since the last block becomes one without a cheap path."""
        if self.leaves and x is self.leaves[-1]:
            return x
        if self.leaves:
            return self._close(x, 0.0)
        self.stem = x
        return self._leaf(x)

    def _leaf(self, x: Tensor) -> Tensor:
        self.leaves.append(x.detach().requires_grad_())
        return self.leaves[-1]

    def _close(self, output: Tensor, carry: Carry) -> Tensor:
        if isinstance(carry, Tensor) or not callable(carry):
            shifted: Carry = carry * (1 - self.gamma)
        else:
            shifted = lambda w, k=carry: k(w) * (1 - self.gamma)  # noqa: E731
        self.links.append(Link(self.leaves[-1], output, shifted))
        return self._leaf(output)

    def take_gradients(self) -> list[Tensor]:
        """The loss's own gradient at every leaf: zero below the last, unless the loss sees inner activations."""
        found = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in self.leaves]
        for leaf in self.leaves:
            leaf.grad = None
        return found

    def rounds(self, start: Sequence[Tensor], iterations: int) -> Iterator[list[Tensor]]:
        """w^0, w^1, ..., w^k at every leaf.

        Args:
            start: the loss's own gradient at every leaf.
            iterations: k.
        """
        w = self._accumulate(start)
        yield w
        for _ in range(iterations if self.links else 0):
            above = w[1:]
            total = torch.autograd.grad(
                [link.exit for link in self.links], self.leaves[:-1], above,
                retain_graph=True, allow_unused=True, materialize_grads=True,
            )  # fmt: skip
            crossed = [t - link.back(a) for t, link, a in zip(total, self.links, above, strict=True)]
            w = self._accumulate([*(a + v for a, v in zip(start, crossed, strict=False)), start[-1]])
            yield w

    def estimate(self, start: Sequence[Tensor], iterations: int) -> list[Tensor]:
        """w^k at every leaf."""
        *_, last = self.rounds(start, iterations)
        return last

    def _accumulate(self, values: Sequence[Tensor]) -> list[Tensor]:
        """u_L = a_L, u_i = a_i + u_{i+1} K_{i+1}."""
        sums = [values[-1]]
        for value, link in zip(reversed(values[:-1]), reversed(self.links), strict=True):
            sums.append(value + link.back(sums[-1]))
        return sums[::-1]

    def check(self, loss: Tensor) -> None:
        """No block may see another's input, and the loss must see the last one.

        Raises:
            ValueError: a tensor goes round a block.
        """
        leaves = set(self.leaves)
        for number, link in enumerate(self.links):
            if graph_parameters(link.exit) & leaves - {link.leaf}:
                raise ValueError(
                    f"block {number + 1} uses a tensor from before the block below it: blocks must follow one another; "
                    "name blocks that contain the skip connection with blocks=[...]"
                )
        if self.leaves and self.leaves[-1] not in graph_parameters(loss):
            raise ValueError("the loss does not depend on the last block's output: name other blocks with blocks=[...]")
