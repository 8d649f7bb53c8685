"""Highway backpropagation: the gradient in a few parallel rounds, along the residual path (Fagnou et al., 2025)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from neurarium.layers import ResidualBlock, ReZeroModule
from neurarium.learning._rule import LearningRule, Loss
from neurarium.learning.cutting._blocks import Blocks, backward_all, find_blocks
from neurarium.learning.highway._highway_chain import Chain
from neurarium.learning.highway._highway_recurrent import RECURRENT, recur
from neurarium.training import call


class HighwayBackprop(LearningRule):
    """The gradient summed over all paths that cross at most ``iterations`` expensive branches.

    A block's Jacobian is J + K, K the cheap path past its branch. The loss's gradient is sent down all K at once; then,
    ``iterations`` times, every block sends what it has through its J, all blocks at the same time, and the results
    travel down the K again. After as many rounds as there are blocks above it, a block's
    gradient is exact. Parameters get theirs from one more backward pass through each block alone.

    What counts as a block: in feed-forward networks every `ResidualBlock` (`Residual`, `PostNormResidual`,
    `SpaceToDepthStage` or one of yours), `ReZero`, and `nn.TransformerEncoderLayer` with ``norm_first=True``; in
    `nn.GRU` and `nn.LSTM` every time step. What lies between two blocks is one without a cheap path. The network is
    run once, so dropout and batch statistics are those of one forward pass. What comes before the first block and
    after the last one is differentiated exactly.

    A network without any of these is cut at its layers, which have no cheap path: the result is backpropagation
    through the last ``iterations`` layers.

    The rounds are independent work for L devices. On one device a feed-forward network gains nothing: k + 1 passes
    instead of one. A recurrent layer does, since a round is one batched product over all its time steps.

    Attributes:
        iterations: may be changed at any time: fewer rounds at the start of training do.

    Args:
        model: the network. Its blocks must follow one another.
        loss: ``loss(output, target) -> scalar``.
        iterations: k, the number of rounds.
        gamma: share of K that is treated as part of J; 0.2 is the paper's for pre-norm transformers, 0.8 for
            post-norm ones. Exact gradients stay what they are. 1 leaves no cheap path: fixed-point iteration, which is
            backpropagation truncated to the last k blocks.
        blocks: names or types of the blocks, for modules that do not declare themselves; each must compute x + f(x).

    Raises:
        ValueError: ``iterations`` is negative or ``gamma`` outside 0..1; a named block is missing. At a batch: a block
            changes the shape of its input, works in place on it, or is bypassed.
    """

    slug: ClassVar[str] = "highway-bp"
    learning_rate: ClassVar[float] = 1e-3

    def __init__(
        self, model: nn.Module, loss: Loss, *, iterations: int = 2, gamma: float = 0.0, blocks: Blocks = None
    ) -> None:
        super().__init__(model, loss)
        if iterations < 0:
            raise ValueError(f"iterations must not be negative, not {iterations}")
        if not 0 <= gamma <= 1:
            raise ValueError(f"gamma must lie between 0 and 1, not {gamma}")
        self.iterations = iterations
        self.gamma = gamma
        self._recurrent = [m for m in model.modules() if isinstance(m, RECURRENT)]
        self._blocks = _outermost(model) if blocks is None else [block for _, block in find_blocks(model, blocks)]
        self._cuts: list[nn.Module] = []
        if not self._blocks and not self._recurrent:
            self._cuts = [end for _, end in find_blocks(model)]
        self._checked = False

    def assign_credit(self, x: Any, y: Tensor) -> Tensor:
        """Add the estimated gradients; returns the detached loss."""
        with self._recording(self.iterations) as chain:
            loss = self.loss(call(self.model, x), y)
        self._check(chain, loss)
        # What the loss sees of the network before its first block is part of a graph that is still needed.
        loss.backward(retain_graph=chain.stem is not None)
        if chain.stem is not None:
            arriving = chain.estimate(chain.take_gradients(), self.iterations)
            backward_all([chain.stem, *(link.exit for link in chain.links)], arriving)
        return loss.detach()

    def gradients_by_order(self, x: Any, y: Tensor, max_order: int | None = None) -> list[list[Tensor]]:
        """Gradients with respect to what enters each block, and the last one's output, for k = 0, 1, ..., max_order.

        ``.grad`` is left alone; recurrent layers are differentiated exactly.

        Args:
            x: inputs.
            y: targets.
            max_order: by default the number of blocks L, at which the gradients are exact.

        Returns:
            For every k a list of L + 1 tensors.

        Raises:
            ValueError: the network has no block.
        """
        with self._recording(None) as chain:
            loss = self.loss(call(self.model, x), y)
        self._check(chain, loss)
        if not chain.links:
            raise ValueError("the network has no residual block: there is one order of paths only")
        start = torch.autograd.grad(loss, chain.leaves, allow_unused=True, materialize_grads=True)
        return list(chain.rounds(list(start), len(chain.links) if max_order is None else max_order))

    @contextmanager
    def _recording(self, iterations: int | None) -> Iterator[Chain]:
        """Within the context the network's forward pass records a chain of blocks, each with a graph of its own."""
        chain = Chain(self.gamma)
        for block in self._blocks:
            block.__dict__["forward"] = partial(chain.run, block)
        if iterations is not None:
            for layer in self._recurrent:
                layer.__dict__["forward"] = partial(recur, layer, iterations, self.gamma)
        handles = [
            cut.register_forward_hook(lambda module, arguments, output: chain.enter(output)) for cut in self._cuts
        ]
        try:
            yield chain
        except RuntimeError as error:
            if "in-place operation" in str(error):
                raise ValueError(
                    "HighwayBackprop needs a block's input intact, but one works on it in place: use inplace=False"
                ) from error
            raise
        finally:
            for module in (*self._blocks, *self._recurrent):
                module.__dict__.pop("forward", None)
            for handle in handles:
                handle.remove()

    def _check(self, chain: Chain, loss: Tensor) -> None:
        if not self._checked:
            chain.check(loss)
            self._checked = True


def _outermost(model: nn.Module) -> list[nn.Module]:
    """Residual blocks that are not part of another one, in the order of definition."""
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if _is_residual(module) and not any(name.startswith(f"{outer}.") for outer in found):
            found[name] = module
    return list(found.values())


def _is_residual(module: nn.Module) -> bool:
    if isinstance(module, nn.TransformerEncoderLayer):
        return module.norm_first
    return isinstance(module, (ResidualBlock, ReZeroModule))
