"""How many constraints the training examples put on each parameter."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from neurarium.probes._result import ProbeResult
from neurarium.training import call, count_rows, evaluation, undisturbed, unpack


@dataclass(frozen=True)
class Overdetermination(ProbeResult):
    """Q = K M / P.

    Args:
        examples: K.
        outputs: M, numbers that the network gives for an example.
        parameters: P, those that are trained.
        ratio: Q; above 1 the examples say more than the parameters can take up by heart.
    """

    examples: int
    outputs: int
    parameters: int
    ratio: float

    def summary(self) -> str:
        """The ratio and what it is made of."""
        what = f"{self.examples} examples x {self.outputs} outputs / {self.parameters} parameters"
        return f"Q = {self.ratio:.3g} ({what}): {'over' if self.ratio > 1 else 'under'}determined"

    def plot(self, ax: Any) -> Any:
        """Constraints beside parameters."""
        ax.bar(["constraints", "parameters"], [self.examples * self.outputs, self.parameters])
        ax.set_title(f"Q = {self.ratio:.3g}")
        return ax


@torch.no_grad()
def overdetermination(model: nn.Module, loader: Iterable[Any]) -> Overdetermination:
    """The overdetermination ratio of a network on its training examples (Hrycej, Bermeitinger and Handschuh, 2022).

    Args:
        model: any module; the trained parameters count, a shared one once.
        loader: training batches, in any form that `training.unpack` knows.

    Raises:
        ValueError: no batch, or nothing to train.
    """
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if not parameters:
        raise ValueError(f"{type(model).__name__} has no parameter that is trained")
    examples, outputs = 0, 0
    for batch in loader:
        x, _ = unpack(batch)
        if not examples:
            with undisturbed(model), evaluation(model):
                outputs = call(model, x)[0].numel()
        examples += count_rows(x)
    if not examples:
        raise ValueError("loader gave no batches")
    return Overdetermination(examples, outputs, parameters, examples * outputs / parameters)
