"""SET as a compressor: the same network, trained anew with a small share of its connections."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.compression._compressor import Compressor
from neurarium.compression.pruning._evolution import SparseEvolution, random_sparse
from neurarium.learning import Backprop
from neurarium.learning._rule import Loss
from neurarium.training import JoinedBatches, fit


class SparseEvolutionaryTraining(Compressor):
    """Trains a random sparse copy of a network from scratch and rewires it after every epoch (Mocanu et al. 2018).

    The dense weights are not used: the method needs no trained network, only its shape. Never more than the share
    ``density`` of the weights is in memory.

    Args:
        density: share of the weights of every linear layer but the last that exists.
        zeta: share of the connections of either sign that moves after an epoch.
        epochs: passes over the loader; the last one ends with a removal alone.
        lr: learning rate of SGD.
        momentum: of SGD.
        loss: ``loss(output, target) -> scalar``.
        generator: source of places and values.

    Raises:
        ValueError: ``epochs`` is below 1.
    """

    def __init__(
        self,
        density: float = 0.2,
        *,
        zeta: float = 0.3,
        epochs: int = 20,
        lr: float = 0.05,
        momentum: float = 0.9,
        loss: Loss = cross_entropy,
        generator: torch.Generator | None = None,
    ) -> None:
        if epochs < 1:
            raise ValueError(f"epochs must be at least 1, not {epochs}")
        self.density, self.zeta, self.epochs = density, zeta, epochs
        self.lr, self.momentum, self.loss, self.generator = lr, momentum, loss, generator

    def compress(self, model: nn.Module, loader: Iterable[Any]) -> nn.Module:
        """A sparse network of the model's shape, trained on the loader.

        Raises:
            ValueError: the model has no linear layer before its last one.
        """
        sparse = random_sparse(model, density=self.density, generator=self.generator).model
        rule = Backprop(sparse, self.loss)
        optimizer = torch.optim.SGD(rule.parameters(), self.lr, self.momentum)
        evolution = SparseEvolution(sparse, optimizer, zeta=self.zeta, generator=self.generator)
        for epoch in range(self.epochs):
            fit(rule, JoinedBatches(loader), optimizer)
            evolution.evolve(last=epoch == self.epochs - 1)
        return sparse
