"""How much of what reaches Kolmogorov-Arnold layers lies on their grids."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from neurarium.layers.kan._bspline import BSplineBasis
from neurarium.layers.kan._kan_linear import KANLinear
from neurarium.training import call, evaluation


@torch.no_grad()
def grid_coverage(model: nn.Module, x: Any, *, at_least: float = 0.0) -> dict[str, float]:
    """Share of the inputs of every `KANLinear` of splines that lies within its grid, on a batch.

    Outside the grid only the base function is left, so a low share is a layer that is hardly more than a perceptron's.

    Args:
        model: any network.
        x: a batch of its inputs.
        at_least: smallest share that the first such layer may have; 0 asks for nothing.

    Returns:
        Qualified name of each layer -> share, in the order in which the layers are reached.

    Raises:
        ValueError: the model has no such layer, or the share of its first is below ``at_least``.
    """
    layers = {
        name: m for name, m in model.named_modules() if isinstance(m, KANLinear) and isinstance(m.basis, BSplineBasis)
    }
    if not layers:
        raise ValueError(f"{type(model).__name__} has no KANLinear of splines, so no grid to look at")
    shares: dict[str, float] = {}

    def watch(name: str, layer: KANLinear) -> Any:
        return layer.register_forward_pre_hook(lambda _, args: shares.update({name: 1 - layer.outside(args[0])}))

    hooks = [watch(name, layer) for name, layer in layers.items()]
    try:
        with evaluation(model):
            call(model, x)
    finally:
        for hook in hooks:
            hook.remove()
    first = next(iter(shares), "")
    if shares and shares[first] < at_least:
        grid: Any = layers[first].basis.grid
        low, high = float(grid[:, 0].min()), float(grid[:, -1].max())
        raise ValueError(
            f"{1 - shares[first]:.0%} of the inputs of {first!r} lie outside its grid [{low:g}, {high:g}]: "
            "scale them, or call update_grids"
        )
    return shares
