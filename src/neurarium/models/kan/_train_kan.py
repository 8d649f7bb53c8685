"""Training a Kolmogorov-Arnold network on all data at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from neurarium.models.kan._kan import KAN
from neurarium.objectives import edge_sparsity

GRID_UPDATES = 10
GRID_STEPS = 50


def train_kan(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    steps: int = 20,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = mse_loss,
    sparsity: float = 0.0,
    update_grid: bool = True,
) -> list[float]:
    """L-BFGS with a strong Wolfe line search on all data, as the paper trains (history 10, 20 iterations a step).

    A step that ends higher than it began is taken back: near the rounding floor the line search does that. The grids
    of a `KAN` move to the layers' inputs 10 times within the first 50 steps. Any other module is trained in the same
    way without grids, which makes a fair comparison.

    Args:
        model: a `KAN` or any module.
        x: inputs [rows, inputs].
        y: targets.
        steps: calls of the optimizer.
        loss: ``loss(output, y) -> scalar``.
        sparsity: factor of `edge_sparsity` in what is minimised.
        update_grid: whether grids move.

    Returns:
        The loss before each step, without the sparsity.

    Raises:
        FloatingPointError: the loss is no longer finite.
    """
    options: dict[str, Any] = {"history_size": 10, "tolerance_grad": 1e-32, "tolerance_change": 1e-32}
    optimizer = torch.optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe", **options)
    every = max(1, GRID_STEPS // GRID_UPDATES)
    seen: list[tuple[float, float]] = []

    def objective() -> Tensor:
        plain = loss(model(x), y)
        whole = plain + sparsity * edge_sparsity(model, x) if sparsity else plain
        seen.append((float(plain.detach()), float(whole.detach())))
        return whole

    def closure() -> Tensor:
        optimizer.zero_grad()
        whole = objective()
        whole.backward()
        return whole

    history = []
    for step in range(steps):
        if update_grid and isinstance(model, KAN) and step % every == 0 and step < GRID_STEPS:
            model.update_grid(x)
        before = [p.detach().clone() for p in model.parameters()]
        seen.clear()
        optimizer.step(closure)
        plain, whole = seen[0]
        history.append(plain)
        if not math.isfinite(whole):
            raise FloatingPointError(f"the loss is not finite at step {step}; scale inputs and targets to about 1")
        with torch.no_grad():
            objective()
            if not seen[-1][1] <= whole:  # the line search was lost in rounding: back, and a fresh history
                for parameter, kept in zip(model.parameters(), before, strict=True):
                    parameter.copy_(kept)
                optimizer.state.clear()
    return history
