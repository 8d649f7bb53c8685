"""Training a forecaster on recorded runs, once, for many models to come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from neurarium.data import TrajectoryDataset, future_error


@runtime_checkable
class TrainableForecast(Protocol):
    """A forecaster with the structure of one model."""

    def forecasts(self, scaled: Tensor, k: int | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Scaled future states [slices, parameters, horizon], differentiable."""


@runtime_checkable
class TrainableForecaster(Protocol):
    """What is trained: `NiNo` and `WeightNowcast` are."""

    context: int
    horizon: int

    def bind(self, model: nn.Module) -> TrainableForecast:
        """The forecaster for one model."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """What the optimizer takes."""


def fit_forecaster(
    forecaster: TrainableForecaster,
    dataset: TrajectoryDataset,
    *,
    steps: int = 20_000,
    learning_rate: float = 3e-3,
    weight_decay: float = 1e-2,
    trajectories: int = 4,
    slices: int = 4,
    max_norm: float = 5.0,
    bind: Callable[[nn.Module], TrainableForecast] | None = None,
    generator: torch.Generator | None = None,
    callbacks: Sequence[Callable[[int, float], object]] = (),
) -> list[float]:
    """Least absolute error of scaled future states over all horizons that a run reaches (section 4.3).

    AdamW under a cosine that ends at 1e-6; a step sees ``trajectories`` runs with ``slices`` windows each, which
    start one snapshot after the other. Every window counts alike, whatever the size of its model. Graphs are built once
    for each structure; their positions change signs at random.

    Args:
        forecaster: a `NiNo` or `WeightNowcast`.
        dataset: windows with the forecaster's context and horizon.
        steps: of the optimizer.
        learning_rate: at the start.
        weight_decay: of AdamW.
        trajectories: runs in a step.
        slices: windows of each.
        max_norm: gradients are clipped to this norm.
        bind: gives the forecaster for a model; its own ``bind`` by default.
        generator: draws runs, windows and signs.
        callbacks: called after each step as ``callback(step, loss)``.

    Returns:
        The loss of every step.

    Raises:
        ValueError: context or horizon of forecaster and data differ.
        FloatingPointError: the loss is not finite; the weights are those before the step.
    """
    if (forecaster.context, forecaster.horizon) != (dataset.context, dataset.horizon):
        raise ValueError(
            f"the dataset has context {dataset.context} and horizon {dataset.horizon}, the forecaster "
            f"{forecaster.context} and {forecaster.horizon}"
        )
    generator = generator or torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(forecaster.parameters(), learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps), eta_min=1e-6)
    bound: dict[Any, TrainableForecast] = {}
    history = []
    for step in range(1, steps + 1):
        losses = []
        for windows in dataset.batch(trajectories, slices, generator):
            model = dataset.trajectories[windows[0].trajectory].model
            key = _structure(model)
            if key not in bound:
                bound[key] = (bind or forecaster.bind)(model)
            forecasts = bound[key].forecasts(torch.stack([w.past for w in windows]), generator=generator)
            losses += [torch.cat([future_error(f, w) for f, w in zip(forecasts, windows)])]
        loss = torch.cat(losses).mean()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is not finite at step {step}; lower learning_rate")
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(forecaster.parameters(), max_norm)
        optimizer.step()
        schedule.step()
        history.append(float(loss.detach()))
        for callback in callbacks:
            callback(step, history[-1])
    return history


def _structure(model: nn.Module) -> tuple[Any, ...]:
    """Equal for models that differ in their weights only; plain numbers count, such as how many heads there are."""
    layers = (
        (name, type(module), tuple((k, v) for k, v in vars(module).items() if isinstance(v, (int, float, str))))
        for name, module in model.named_modules()
    )
    return (*layers, *((name, parameter.shape) for name, parameter in model.named_parameters()))
