"""Copies of one network, each with its own weights, evaluated side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vmap

from neurarium.training import copy_module, prediction


@dataclass(frozen=True, eq=False)
class StackedFields:
    """One network with the weights of several signals.

    Args:
        field: the network; what is not in ``weights`` is its own.
        weights: parameter's name -> [signals, *shape].
    """

    field: nn.Module
    weights: dict[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.weights.values())))

    @torch.no_grad()
    def __call__(self, points: Any) -> Float[Tensor, "signals ..."]:
        """Every field at the same points [points, dimensions]."""

        def one(weights: dict[str, Tensor]) -> Tensor:
            return prediction(functional_call(self.field, weights, (points,)))

        return vmap(one, randomness="different")(self.weights)

    def module(self, index: int) -> nn.Module:
        """One field as a network of its own."""
        return self._filled({name: weight[index] for name, weight in self.weights.items()})

    def between(self, first: int, second: int, share: float) -> nn.Module:
        """The network on the straight line between two fields' weights: the first at 0, the second at 1.

        Fields that were fitted from one learned start stay a sensible signal on the way; from a random start they do
        not.
        """
        weights = {name: torch.lerp(weight[first], weight[second], share) for name, weight in self.weights.items()}
        return self._filled(weights)

    @torch.no_grad()
    def _filled(self, weights: dict[str, Tensor]) -> nn.Module:
        field = copy_module(self.field)
        for name, parameter in field.named_parameters():
            if name in weights:
                parameter.copy_(weights[name])
        return field
