"""Training a Kolmogorov-Arnold network on all data at once."""

from __future__ import annotations

from collections.abc import Callable

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

    The grids of a `KAN` move to the layers' inputs 10 times within the first 50 steps. Any other module is trained in
    the same way without grids, which makes a fair comparison.

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
    optimizer = torch.optim.LBFGS(
        model.parameters(), history_size=10, tolerance_grad=1e-32, tolerance_change=1e-32, line_search_fn="strong_wolfe"
    )
    every = max(1, GRID_STEPS // GRID_UPDATES)
    plain: list[float] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        objective = loss(model(x), y)
        plain.append(float(objective.detach()))
        if sparsity:
            objective = objective + sparsity * edge_sparsity(model, x)
        objective.backward()
        return objective

    history = []
    for step in range(steps):
        if update_grid and isinstance(model, KAN) and step % every == 0 and step < GRID_STEPS:
            model.update_grid(x)
        plain.clear()
        optimizer.step(closure)
        history.append(plain[0])
        if not torch.isfinite(torch.tensor(plain[0])):
            raise FloatingPointError(f"the loss is not finite at step {step}; scale inputs and targets to about 1")
    return history
