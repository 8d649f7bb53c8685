"""What a network with mixtures of experts has, and what of it an input uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from neurarium.layers import MixtureOfExperts
from neurarium.probes._result import ProbeResult
from neurarium.training import call, evaluation


@dataclass(frozen=True)
class MixtureCost(ProbeResult):
    """Parameters and floating-point operations, all and those in use.

    Args:
        parameters: all of the network's.
        active_parameters: those that a token uses, an expert counting as the mean of its mixture.
        flops: of the pass, where each token went to its experts alone.
        dense_flops: of a pass in which each token goes to all experts.
    """

    parameters: int
    active_parameters: int
    flops: int
    dense_flops: int

    def summary(self) -> str:
        """All four."""
        return (
            f"{self.active_parameters:,} of {self.parameters:,} parameters and {self.flops:,} of {self.dense_flops:,} "
            "floating-point operations in use"
        )

    def plot(self, ax: Any) -> Any:
        """All and active, as bars."""
        ax.barh(["operations", "parameters"], [self.dense_flops, self.parameters], alpha=0.3, label="all")
        ax.barh(["operations", "parameters"], [self.flops, self.active_parameters], label="in use")
        ax.set(xscale="log")
        ax.legend()
        return ax


@torch.no_grad()
def mixture_cost(model: nn.Module, x: Any) -> MixtureCost:
    """Count what a network with `MixtureOfExperts` has and uses.

    Operations are those that torch's counter knows (matrix products and convolutions), on this batch.

    Args:
        model: any network.
        x: a batch of its inputs.

    Raises:
        ValueError: the network has no such layer.
    """
    layers = [m for m in model.modules() if isinstance(m, MixtureOfExperts)]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no MixtureOfExperts whose cost could be counted")
    parameters = sum(p.numel() for p in model.parameters())
    idle = sum(_size(layer) * (1 - _in_use(layer)) for layer in layers)
    extra = 0

    def count(layer: MixtureOfExperts, args: tuple[Any, ...], output: Any) -> None:
        nonlocal extra
        if layer.router == "top_k":
            tokens = args[0].reshape(-1, layer.d_model)
            every = sum(_flops(expert, tokens) for expert in layer.experts)
            extra += round(every - every * _in_use(layer)) if len(layer.experts) > 1 else 0

    with evaluation(model):
        with FlopCounterMode(display=False) as counter:
            call(model, x)
        hooks = [layer.register_forward_hook(count) for layer in layers]
        try:
            call(model, x)
        finally:
            for hook in hooks:
                hook.remove()
    flops = counter.get_total_flops()
    return MixtureCost(parameters, round(parameters - idle), flops, flops + extra)


def _in_use(layer: MixtureOfExperts) -> float:
    """Share of the experts that a token uses."""
    return layer.top_k / len(layer.experts) if layer.router == "top_k" else 1.0


def _size(layer: MixtureOfExperts) -> int:
    return sum(p.numel() for p in layer.experts.parameters())


def _flops(expert: nn.Module, tokens: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        expert(tokens)
    return int(counter.get_total_flops())
