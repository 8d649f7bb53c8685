"""SortedNet as a compressor: train a sorted copy, hand out the member that fits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.compression._compressor import Compressor
from neurarium.compression.nested._sorted_net import SortedNet, select
from neurarium.learning._rule import Loss
from neurarium.training import JoinedBatches, copy_module, join_rows, training, unpack


class SortedCompression(Compressor):
    """Trains a copy of the model on as a SortedNet and takes out its best member within a budget.

    Args:
        fraction: most parameters of the result, as a share of the model's.
        widths: the family; 1 must be among them.
        epochs: passes over the loader.
        per_step: members trained per step.
        learning_rate: Adam's.
        loss: ``loss(output, target) -> scalar``.

    Raises:
        ValueError: ``fraction`` or ``epochs`` out of range.
    """

    def __init__(
        self,
        fraction: float = 0.5,
        *,
        widths: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
        epochs: int = 10,
        per_step: int = 2,
        learning_rate: float = 2e-3,
        loss: Loss = cross_entropy,
    ) -> None:
        if not 0 < fraction < 1 or epochs < 1:
            raise ValueError(f"fraction must be between 0 and 1 and epochs at least 1, not {fraction} and {epochs}")
        self.fraction, self.widths, self.epochs = fraction, tuple(widths), epochs
        self.per_step, self.learning_rate, self.criterion = per_step, learning_rate, loss

    def compress(self, model: nn.Module, loader: Iterable[Any]) -> nn.Module:
        """The most accurate member on the loader that has few enough parameters.

        Raises:
            ValueError: the model cannot be cut, or its smallest member is over the budget.
        """
        example = next((x for x, _ in map(unpack, loader)), None)
        if example is None:
            raise ValueError("the loader gave no batches")
        join_rows([example])  # tensors, or a sentence
        net = SortedNet(copy_module(model), example[:2], self.widths, per_step=self.per_step)
        optimizer = torch.optim.Adam(net.parameters(), self.learning_rate)
        with training(net):
            for _ in range(self.epochs):
                for x, y in map(unpack, JoinedBatches(loader)):
                    optimizer.zero_grad()
                    net.loss(x, y, self.criterion)
                    optimizer.step()
        budget = self.fraction * sum(p.numel() for p in model.parameters())
        return net.extract(select(net.table(loader), max_parameters=budget).sub)
