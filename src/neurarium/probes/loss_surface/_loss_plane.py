"""The loss on a plane through parameter space, and on the surface between a training run and its straight line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult
from neurarium.probes.loss_surface._loss_sweep import Loader, Score, losses_at
from neurarium.probes.loss_surface._parameter_space import Point, named_point
from neurarium.probes.loss_surface._trajectory import Trajectory


@dataclass(frozen=True)
class LossPlane(ProbeResult):
    """Loss on a grid of positions in parameter space.

    Args:
        across: horizontal coordinate of every position, ``[rows, columns]``.
        up: vertical coordinate, ``[rows, columns]``.
        loss: mean loss, ``[rows, columns]``; NaN where it is not finite.
        metric: mean of the second metric, or None.
        labels: what the two coordinates are.
    """

    across: np.ndarray
    up: np.ndarray
    loss: np.ndarray
    metric: np.ndarray | None = None
    labels: tuple[str, str] = ("across", "up")

    def summary(self) -> str:
        """Range of the loss, and where it is smallest."""
        if not np.isfinite(self.loss).any():
            return f"the loss is not finite at any of {self.loss.size} points"
        low = np.unravel_index(int(np.nanargmin(self.loss)), self.loss.shape)
        return (
            f"loss from {self.loss[low]:.4g} at ({self.across[low]:.3g}, {self.up[low]:.3g}) "
            f"to {np.nanmax(self.loss):.4g} over {self.loss.shape[0]} x {self.loss.shape[1]} points"
        )

    def plot(self, ax: Any) -> Any:
        """Filled contours of the logarithm of the loss (of the loss itself where it is not positive)."""
        positive = np.nanmin(self.loss) > 0
        shown = np.ma.masked_invalid(np.log10(self.loss) if positive else self.loss)
        filled = ax.contourf(self.across, self.up, shown, levels=30, cmap="viridis")
        ax.figure.colorbar(filled, ax=ax, label="log10 loss" if positive else "loss")
        ax.set(xlabel=self.labels[0], ylabel=self.labels[1])
        return ax


def loss_on_plane(
    model: nn.Module,
    loss: Score,
    loader: Loader,
    origin: Point,
    across: Point,
    up: Point,
    *,
    points: tuple[int, int] = (15, 15),
    span_across: tuple[float, float] = (-0.2, 1.2),
    span_up: tuple[float, float] = (-1.0, 1.0),
    filter_normalized: bool = False,
    metric: Score | None = None,
    recalibrate: bool | Loader | None = None,
) -> LossPlane:
    """The loss at ``origin + a across + b up``.

    The paper's plane is that of a run's start, ``trajectory.direction()`` and ``trajectory.residual_vector(t)``.

    Args:
        model: any module; left as it was.
        loss: ``loss(model(x), y) -> scalar``, a mean over the batch.
        loader: batches ``(x, y)``.
        origin: a module, a ``state_dict`` or a parameter vector.
        across: the first direction, likewise.
        up: the second direction, likewise.
        points: positions across and up.
        span_across: first and last a.
        span_up: first and last b.
        filter_normalized: rescale each direction so that every filter (row of a weight) has the norm of the origin's,
            and drop biases and gains (Li et al. 2018; not of this paper). For random directions.
        metric: a second score.
        recalibrate: as in `loss_along_line`.

    Raises:
        ValueError: names or shapes differ from the model's, a direction is zero, or ``points`` is below 2.
    """
    if min(points) < 2:
        raise ValueError(f"points must be at least 2 each way, not {points}")
    center = named_point(model, origin, "origin")
    directions = [named_point(model, across, "across"), named_point(model, up, "up")]
    for name, direction in zip(("across", "up"), directions):
        if not any(bool(tensor.any()) for tensor in direction.values()):
            raise ValueError(f"{name} is the zero direction")
    if filter_normalized:
        directions = [_filter_normalized(direction, center) for direction in directions]
    a, b = np.meshgrid(np.linspace(*span_across, points[0]), np.linspace(*span_up, points[1]))
    coefficients = np.stack([np.ones(a.size), a.ravel(), b.ravel()], axis=1)
    found = losses_at(model, loss, loader, [center, *directions], coefficients, metric=metric, recalibrate=recalibrate)
    second = None if found.metric is None else found.metric.reshape(a.shape)
    return LossPlane(a, b, found.loss.reshape(a.shape), second)


def loss_around_run(
    model: nn.Module,
    loss: Score,
    loader: Loader,
    trajectory: Trajectory,
    *,
    scale: Sequence[float] | np.ndarray = (-0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5),
    metric: Score | None = None,
    recalibrate: bool | Loader | None = None,
) -> LossPlane:
    """The loss between a run and its straight line (the paper's progress-and-residual surface).

    Column t holds the points ``theta_0 + progress_t u + s residual_t``: s = 0 is the run projected on the line, s = 1
    the run itself. ``across`` is the progress, ``up`` is s times the residual's length; ``Trajectory.plot`` draws the
    run on the same axes.

    Args:
        model: the module the run belongs to; left as it was.
        loss: ``loss(model(x), y) -> scalar``, a mean over the batch.
        loader: batches ``(x, y)``.
        trajectory: from `TrajectoryRecorder`, not a sketch.
        scale: the values of s, one row each.
        metric: a second score.
        recalibrate: as in `loss_along_line`.

    Raises:
        ValueError: the trajectory is a sketch, or belongs to another model.
    """
    rows = np.asarray(scale, dtype=float)
    if rows.ndim != 1 or rows.size == 0:
        raise ValueError("scale must be a sequence of at least one number")
    start, direction = trajectory.snapshot(0), trajectory.direction()
    loss_map = np.empty((rows.size, len(trajectory)))
    second = None if metric is None else np.empty_like(loss_map)
    batches = list(loader)  # read for every snapshot
    for t, share in enumerate(trajectory.relative_progress):
        basis = [named_point(model, start + direction * float(share), "trajectory")]
        basis.append(named_point(model, trajectory.residual_vector(t), "trajectory"))
        coefficients = np.stack([np.ones_like(rows), rows], axis=1)
        found = losses_at(model, loss, batches, basis, coefficients, metric=metric, recalibrate=recalibrate)
        loss_map[:, t] = found.loss
        if second is not None:
            second[:, t] = found.metric
    across = np.broadcast_to(trajectory.progress, loss_map.shape)
    return LossPlane(across, np.outer(rows, trajectory.residual), loss_map, second, ("progress", "residual"))


def _filter_normalized(direction: dict[str, Tensor], origin: dict[str, Tensor]) -> dict[str, Tensor]:
    result = {}
    for name, tensor in direction.items():
        if tensor.dim() < 2:
            result[name] = torch.zeros_like(tensor)
            continue
        rows, target = tensor.flatten(1), origin[name].flatten(1)
        factor = target.norm(dim=1) / rows.norm(dim=1).clamp_min(torch.finfo(tensor.dtype).tiny)
        result[name] = (rows * factor[:, None]).view_as(tensor)
    return result
