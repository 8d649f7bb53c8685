"""The path of a training run, split into progress along the line to its end and distance from it (section 4)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from neurarium.probes._result import ProbeResult
from neurarium.training import Handle, on_step


@dataclass(frozen=True)
class Trajectory(ProbeResult):
    """A run of T + 1 snapshots, decomposed along ``u = (theta_T - theta_0) / ||theta_T - theta_0||``.

    Args:
        step: optimizer step of each snapshot; the first is 0.
        progress: ``<theta_t - theta_0, u>``, in parameter units.
        residual: ``||theta_t - theta_0 - progress_t u||``.
        start: theta_0 as one vector, in the order of ``model.parameters()``; None for a run kept as a sketch.
        offsets: ``theta_t - theta_0``, one row per snapshot (or its sketch).
    """

    step: np.ndarray
    progress: np.ndarray
    residual: np.ndarray
    start: Tensor | None = field(repr=False)
    offsets: tuple[Tensor, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.step)

    @property
    def distance(self) -> float:
        """``||theta_T - theta_0||``."""
        return float(self.progress[-1])

    @property
    def relative_progress(self) -> np.ndarray:
        """Progress as a share of `distance`: 0 at the start, 1 at the end."""
        return self.progress / self.distance

    @property
    def relative_residual(self) -> np.ndarray:
        """Residual as a share of `distance`."""
        return self.residual / self.distance

    @property
    def max_residual_ratio(self) -> float:
        """The largest `relative_residual`: 0 for a run along the line."""
        return float(self.relative_residual.max())

    def snapshot(self, index: int) -> Tensor:
        """theta_t as one vector.

        Raises:
            ValueError: the run was kept as a sketch.
        """
        return self._whole() + self.offsets[index]

    def direction(self) -> Tensor:
        """``theta_T - theta_0`` as one vector."""
        self._whole()
        return self.offsets[-1]

    def residual_vector(self, index: int) -> Tensor:
        """``theta_t - theta_0 - progress_t u`` as one vector: what leads from the line to the run."""
        direction = self.direction()
        return self.offsets[index] - direction * (self.progress[index] / self.distance)

    def _whole(self) -> Tensor:
        if self.start is None:
            raise ValueError("the run was kept as a sketch, which gives progress and residual but no parameters")
        return self.start

    def summary(self) -> str:
        """How far the run went, and how far it strayed from the straight line."""
        widest = int(self.residual.argmax())
        return (
            f"{len(self)} snapshots over {int(self.step[-1])} steps; distance {self.distance:.4g}; "
            f"residual at most {self.max_residual_ratio:.1%} of it, at step {int(self.step[widest])}"
        )

    def plot(self, ax: Any) -> Any:
        """Residual over progress, both in parameter units, start and end marked."""
        ax.plot(self.progress, self.residual, marker=".", color="black")
        ax.plot(self.progress[[0, -1]], self.residual[[0, -1]], "o", color="black", fillstyle="none")
        ax.set(xlabel="progress", ylabel="residual")
        return ax


class TrajectoryRecorder:
    """Keeps snapshots of a model's parameters while any optimizer trains it.

    ``recorder = TrajectoryRecorder(model, every=20)``, ``recorder.attach(optimizer)``, train, ``recorder.decompose()``.
    A snapshot costs one vector of the parameters' size on the CPU: for 1 M parameters and 30 snapshots 120 MB; halve it
    with ``dtype=torch.float16`` (differences from the start are kept, so the start stays exact), or keep a sketch.

    Args:
        model: any module with floating-point parameters.
        every: steps between snapshots.
        dtype: of the kept differences; the parameters' own by default.
        sketch: keep a random projection to so many numbers in place of the parameters: lengths and inner products
            then come out within a share of about ``sqrt(2 / sketch)``, and no plane can be drawn.
        generator: draws the projection.

    Raises:
        ValueError: ``every`` or ``sketch`` is below 1, or the model has no parameters.
        TypeError: a parameter is not floating-point.
    """

    def __init__(
        self,
        model: nn.Module,
        every: int = 1,
        *,
        dtype: torch.dtype | None = None,
        sketch: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, not {every}")
        if sketch is not None and sketch < 1:
            raise ValueError(f"sketch must be at least 1, not {sketch}")
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"dtype must be a floating-point type, not {dtype}")
        for name, parameter in model.named_parameters():
            if not parameter.is_floating_point():
                raise TypeError(f"parameter {name!r} is {parameter.dtype}; a trajectory needs floating-point ones")
        if next(model.parameters(), None) is None:
            raise ValueError("model has no parameters")
        self.model, self.every, self.dtype = model, every, dtype
        self.steps: list[int] = []
        self.offsets: list[Tensor] = []
        self.taken = 0
        self._handle = Handle()
        self._start = self._now()
        self._sketch = _CountSketch(self._start.numel(), sketch, generator) if sketch else None
        self._keep(self._start)

    def attach(self, optimizer: torch.optim.Optimizer) -> Handle:
        """Start at the model's present parameters and follow the optimizer's steps.

        Returns:
            A handle whose ``remove()`` ends that; the snapshots are kept.

        Raises:
            ValueError: it is attached already.
        """
        if self._handle.attached:
            raise ValueError("the recorder is attached already; remove() its handle first")
        if self.taken == 0:
            self._start = self._now()
            self.steps.clear()
            self.offsets.clear()
            self._keep(self._start)
        self._handle = on_step(optimizer, after=lambda _: self.count())
        return self._handle

    def count(self) -> None:
        """Count one update, and keep a snapshot if it is due. The optimizer's hook; call it in a loop without one."""
        self.taken += 1
        if self.taken % self.every == 0:
            self._keep(self._now())

    def decompose(self) -> Trajectory:
        """Progress and residual of the run up to the model's present parameters.

        Raises:
            ValueError: no step was taken, the model is where it began, or a parameter is not finite.
        """
        if self.taken == 0:
            raise ValueError("no optimizer step was recorded; attach(optimizer) before training")
        now = self._now()
        steps, offsets = list(self.steps), list(self.offsets)
        if steps[-1] == self.taken:
            offsets.pop()
        else:
            steps.append(self.taken)
        offsets.append(self._project(now - self._start))  # the end in full precision: it sets the direction
        end = offsets[-1].double()
        distance = float(end.norm())
        if not math.isfinite(distance):
            raise ValueError("a parameter is not finite at the end of the run")
        if distance == 0:
            raise ValueError("the model is where it began, so there is no direction to decompose along")
        unit = end / distance
        progress = [float(offset.double() @ unit) for offset in offsets]
        residual = [float((offset.double() - p * unit).norm()) for offset, p in zip(offsets, progress)]
        return Trajectory(
            step=np.array(steps),
            progress=np.array(progress),
            residual=np.array(residual),
            start=None if self._sketch else self._start,
            offsets=tuple(offset.to(self._start.dtype) for offset in offsets),
        )

    def _now(self) -> Tensor:
        with torch.no_grad():
            return parameters_to_vector(self.model.parameters()).detach().cpu().clone()

    def _project(self, offset: Tensor) -> Tensor:
        return offset if self._sketch is None else self._sketch(offset)

    def _keep(self, parameters: Tensor) -> None:
        self.steps.append(self.taken)
        self.offsets.append(self._project(parameters - self._start).to(self.dtype or self._start.dtype))


class _CountSketch:
    """A linear projection that keeps inner products in the mean: every entry is added, with a random sign, to one
    random bucket. Costs five bytes and one addition per parameter, where a Gaussian matrix would cost ``size`` of both.
    """

    def __init__(self, length: int, size: int, generator: torch.Generator | None) -> None:
        self.size = size
        self.bucket = torch.randint(size, (length,), generator=generator, dtype=torch.int32)
        self.sign = torch.randint(2, (length,), generator=generator, dtype=torch.int8) * 2 - 1

    def __call__(self, vector: Tensor) -> Tensor:
        return vector.new_zeros(self.size).index_add_(0, self.bucket, vector * self.sign)
