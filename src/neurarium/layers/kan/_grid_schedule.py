"""Grids that follow the inputs of every Kolmogorov-Arnold layer in any network while it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from neurarium.layers.kan._bspline import BSplineBasis
from neurarium.layers.kan._kan_linear import KANLinear
from neurarium.training import call, evaluation


@torch.no_grad()
def update_grids(model: nn.Module, x: Any, uniform: float = 0.02) -> float:
    """Move the grid of every `KANLinear` of splines to its inputs on a batch, in the order in which they are reached.

    Each layer sees what the layers before it give on their new grids. The model is in evaluation mode meanwhile.

    Args:
        model: any network.
        x: a batch of its inputs, some hundred rows.
        uniform: share of an evenly spaced grid, in (0, 1]; see `KANLinear.update_grid`.

    Returns:
        Share of the layers' inputs that lay outside the old grids.

    Raises:
        ValueError: the model has no such layer.
    """
    layers = [m for m in model.modules() if isinstance(m, KANLinear) and isinstance(m.basis, BSplineBasis)]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no KANLinear of splines, so no grid to update")
    shares: list[float] = []
    hooks = [
        layer.register_forward_pre_hook(lambda m, args: shares.append(m.update_grid(args[0], uniform)))
        for layer in layers
    ]
    try:
        with evaluation(model):
            call(model, x)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(shares) / max(1, len(shares))


class GridSchedule:
    """Calls `update_grids` after given steps; a callback for `neurarium.training.fit`, or called by hand.

    Attributes:
        outside: step -> share of the layers' inputs that lay outside their grids then.

    Args:
        model: any network with `KANLinear` layers.
        x: a batch of its inputs.
        steps: after which steps, counted from 1.
        uniform: share of an evenly spaced grid.
    """

    def __init__(self, model: nn.Module, x: Any, steps: Sequence[int] = (50, 150, 300), uniform: float = 0.02) -> None:
        self.model, self.x, self.steps, self.uniform = model, x, frozenset(steps), uniform
        self.outside: dict[int, float] = {}

    def __call__(self, step: int, loss: float = 0.0) -> None:
        """Update the grids if it is time."""
        if step in self.steps:
            self.outside[step] = update_grids(self.model, self.x, self.uniform)
