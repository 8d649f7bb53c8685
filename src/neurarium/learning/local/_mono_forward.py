"""Mono-Forward: every block learns from a cross-entropy of its own, read out by a small matrix."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neurarium.learning._rule import LearningRule, Loss
from neurarium.learning.cutting._blocks import Blocks
from neurarium.learning.cutting._local_blocks import (
    BypassCheck,
    find_entries,
    is_readout,
    output_features,
    positions,
    vector,
    visiting,
)
from neurarium.training import call, graph_parameters

MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


class MonoForward(LearningRule):
    """Block i and its matrix M_i descend L_i = loss(a_i M_iᵀ, y); nothing flows back to block i − 1.

    (Gong et al., 2025.) A block's backward pass runs as soon as its activation is there and frees its graph before the
    next block starts: one block's activations are alive at a time, however deep the network. The model's own linear
    readout serves as the matrix of the last block, so a network with one hidden layer is trained exactly as by
    backpropagation.

    Convolutional maps are averaged to ``side`` x ``side`` positions before M_i. Tokens [batch, tokens, d] are averaged,
    unless the targets are one per token. Any loss will do: for a regression M_i maps to the target's dimension.

    Attributes:
        projections: M_i [outputs, features], one per cut; N(0, 2 / features) at the start.
        layer_losses: L_i of the latest batch, the model's own last.
        optimizers: one per block once `fuse` was called and a batch was seen.

    Args:
        model: a chain of blocks. The activation of a block must reach the rest of the network only through the
            next block.
        loss: ``loss(output, target) -> scalar``.
        num_outputs: outputs of every matrix; by default those of the model's last layer, which then is the
            readout. Give it where the model has hidden layers only: its last block then gets a matrix too.
        blocks: see `find_blocks`; by default each block is a layer with what follows it up to the next one.
        prediction: ``"last"``: the last block's output; ``"sum"``: the sum over all blocks.
        side: positions that are left of a convolutional map along each dimension.
        generator: source of the matrices, on the CPU; torch's own by default.

    Raises:
        ValueError: no blocks, sizes that cannot be told, or an argument out of range; at the first batch: a tensor from
            before a cut is used after it; at any batch on the CPU: a label that is no class.
    """

    slug: ClassVar[str] = "mono-forward"
    learning_rate: ClassVar[float] = 1e-3

    def __init__(
        self,
        model: nn.Module,
        loss: Loss = F.cross_entropy,
        *,
        num_outputs: int | None = None,
        blocks: Blocks = None,
        prediction: Literal["last", "sum"] = "last",
        side: int = 4,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(model, loss)
        if prediction not in ("last", "sum"):
            raise ValueError(f"prediction must be 'last' or 'sum', not {prediction!r}")
        if side < 1 or (num_outputs is not None and num_outputs < 1):
            raise ValueError(f"side and num_outputs must be at least 1, not {side} and {num_outputs}")
        self.prediction, self.side = prediction, side
        width, maps = output_features(model)
        self.num_outputs = width if num_outputs is None else num_outputs
        self.entries = find_entries(model, blocks)
        sizes = [(e.features, e.channels_first, e.module) for e in self.entries]
        if self.num_outputs != width:
            sizes.append((width, maps, [m for m in model.modules() if m._parameters][-1]))
        elif blocks is None and self.entries and is_readout(model, self.entries[-1]):
            self.entries.pop()
            sizes.pop()
        if not all(features for features, _, _ in sizes):
            raise ValueError("a layer of the model has no size yet: pass a batch through a lazy network first")
        self._channels_first = [channels_first for _, channels_first, _ in sizes]
        reference = next(model.parameters())
        self.projections = nn.ParameterList()
        for features, channels_first, module in sizes:
            count = features * (positions(module, side) if channels_first else 1)
            drawn = torch.randn(self.num_outputs, count, generator=generator) * math.sqrt(2 / count)
            self.projections.append(nn.Parameter(drawn.to(reference)))
        self.layer_losses: list[Tensor] = []
        self.optimizers: list[torch.optim.Optimizer] = []
        self._make_optimizer: MakeOptimizer | None = None
        self._bypass = BypassCheck()

    def forward(self, x: Any) -> Tensor:
        """The last block's output, or the sum over all blocks."""
        if self.prediction == "sum":
            return torch.stack(self.goodness(x)).sum(0)
        output = call(self.model, x)
        return output if len(self.entries) == len(self.projections) else self._project(len(self.entries), output)

    def goodness(self, x: Any) -> list[Float[Tensor, "batch ... outputs"]]:
        """G_i = a_i M_iᵀ of every block, the last one's output at the end."""
        kept: list[Tensor] = []

        def keep(i: int, a: Tensor) -> Tensor:
            kept.append(a)
            return a

        with visiting(self.entries, keep):
            output = call(self.model, x)
        if len(self.projections) > len(self.entries):
            output = self._project(len(self.entries), output)
        return [self._project(i, a, output.dim() == 3) for i, a in enumerate(kept)] + [output]

    def assign_credit(self, x: Any, y: Tensor) -> Tensor:
        """Add the gradients of every block's own loss; returns the last block's, detached."""
        self._check_labels(y)
        self.layer_losses = []

        def cut(i: int, a: Tensor) -> Tensor:
            per_token = a.dim() == 3 and y.shape[:2] == a.shape[:2] and (y.dim() == 3 or not y.is_floating_point())
            self._descend(i, self.loss(self._project(i, a, per_token), y))
            return a.detach()

        with visiting(self.entries, cut):
            output = call(self.model, x)
        if len(self.projections) > len(self.entries):
            output = self._project(len(self.entries), output)
        self._descend(len(self.entries), self.loss(output, y))
        self._bypass.done()
        return self.layer_losses[-1]

    def fuse(self, make_optimizer: MakeOptimizer) -> None:
        """From now on `assign_credit` also steps: each block when its gradient is there, which is then freed.

        The next block is given the activation made with the old weights, so the result equals that of one optimizer
        for all after `assign_credit`, while one block's gradient is alive at a time.

        Args:
            make_optimizer: ``make_optimizer(parameters) -> optimizer``, called for every block at the first batch.
        """
        self._make_optimizer = make_optimizer
        self.optimizers = []

    def _descend(self, i: int, loss: Tensor) -> None:
        """The backward pass of one block, and its step where fused."""
        self._bypass.check(loss, self.entries[min(i, len(self.entries)) - 1] if self.entries else None)
        if self._make_optimizer is not None and len(self.optimizers) == i:
            mine = graph_parameters(loss)
            taken = {p for o in self.optimizers for group in o.param_groups for p in group["params"]}
            if mine & taken:
                raise ValueError("blocks that share parameters cannot be fused: step them with one optimizer")
            self.optimizers.append(self._make_optimizer([p for p in self.parameters() if p in mine]))
        if loss.requires_grad:  # not so where the user froze the block
            loss.backward()
        self.layer_losses.append(loss.detach())
        if self.optimizers:
            self.optimizers[i].step()
            self.optimizers[i].zero_grad()

    def _project(self, i: int, a: Tensor, per_token: bool = False) -> Tensor:
        matrix = self.projections[i]
        activation = vector(a, self._channels_first[i], self.side, per_token)
        if activation.shape[-1] != matrix.shape[1]:
            raise ValueError(
                f"the matrix of block {i + 1} takes {matrix.shape[1]} features, but the block gave "
                f"{tuple(a.shape)}; name other blocks"
            )
        return F.linear(activation, matrix)

    def _check_labels(self, y: Tensor) -> None:
        if self.loss is not F.cross_entropy or y.is_floating_point() or y.device.type != "cpu" or not len(y):
            return
        low, high = (int(value) for value in torch.aminmax(y))
        if high >= self.num_outputs or (low < 0 and low != -100):  # -100 is cross_entropy's ignore_index
            raise ValueError(f"labels must lie in 0..{self.num_outputs - 1}; they go from {low} to {high}")
