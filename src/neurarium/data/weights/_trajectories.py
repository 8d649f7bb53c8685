"""Recorded training runs: snapshots of a model's parameters on disk, and the windows a forecaster learns from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.lib import format as npy
from torch import Tensor, nn
from torch.utils.data import Dataset

from neurarium.data._archives import BROKEN, reason
from neurarium.data._errors import DataError
from neurarium.data._saved import existing
from neurarium.data.weights._weight_scaling import scale_states


class Window(NamedTuple):
    """Which run, its scaled past states [parameters, context], and its scaled future ones [parameters, steps] as far
    as the run goes."""

    trajectory: int
    past: Tensor
    future: Tensor


class TrajectoryRecorder:
    """Writes a snapshot of a model every few steps; made by `record`."""

    def __init__(self, model: nn.Module, path: Path, spacing: int, dtype: torch.dtype) -> None:
        self.model = model
        self.path = path
        self.spacing = spacing
        self.dtype = dtype
        self.steps = 0
        self.rows = 0
        self.part = path.with_name(path.name + ".part")
        self.file = self.part.open("wb")
        self._header()
        self._snapshot()

    def step(self, *_: Any) -> None:
        """Count a step of the optimizer. Can be a callback of `neurarium.training.fit`."""
        self.steps += 1
        if self.steps % self.spacing == 0:
            self._snapshot()

    __call__ = step

    def close(self) -> None:
        """Finish the file; until then it is kept under the name with ".part"."""
        if not self.file.closed:
            self.file.seek(0)
            self._header()
            self.file.close()
            os.replace(self.part, self.path)

    def __enter__(self) -> TrajectoryRecorder:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self.close()

    def _header(self) -> None:
        size = sum(parameter.numel() for parameter in self.model.parameters())
        kind = np.dtype("<f2" if self.dtype == torch.float16 else "<f4")
        about = {"descr": npy.dtype_to_descr(kind), "fortran_order": False, "shape": (self.rows, size)}
        npy.write_array_header_1_0(
            self.file, about
        )  # its length is padded, so the number of rows can be filled in later

    def _snapshot(self) -> None:
        with torch.no_grad():
            vector = torch.cat([p.detach().flatten().to("cpu", self.dtype) for p in self.model.parameters()])
        self.file.write(vector.numpy().tobytes())
        self.rows += 1


def record(
    model: nn.Module, path: str | Path, spacing: int, *, dtype: torch.dtype = torch.float32
) -> TrajectoryRecorder:
    """Record a training run: the parameters at the start and after every ``spacing`` steps, as one .npy file.

    Use it in a ``with`` block, and call it (or its ``step``) after every step of the optimizer.

    Args:
        model: what is trained.
        path: ends in .npy.
        spacing: steps between snapshots.
        dtype: float32, or float16 for half the space; half precision rounds away changes below a thousandth of a
            weight.

    Raises:
        ValueError: ``path`` does not end in .npy, ``spacing`` is below 1, or another dtype.
    """
    path = Path(path)
    if path.suffix != ".npy":
        raise ValueError(f"path must end in .npy, not be {path}")
    if spacing < 1:
        raise ValueError(f"spacing must be at least 1 step, not {spacing}")
    if dtype not in (torch.float16, torch.float32):
        raise ValueError(f"dtype must be float16 or float32, not {dtype}")
    return TrajectoryRecorder(model, path, spacing, dtype)


@dataclass(frozen=True)
class Trajectory:
    """One run: the model it was of, and its states.

    Args:
        model: gives the structure; its own weights do not matter.
        states: [snapshots, parameters], in memory or mapped from disk.
    """

    model: nn.Module
    states: np.ndarray | Tensor

    def __post_init__(self) -> None:
        size = sum(parameter.numel() for parameter in self.model.parameters())
        if len(self.states.shape) != 2 or self.states.shape[1] != size:
            raise ValueError(f"states are {list(self.states.shape)}, but the model has {size} parameters")

    @classmethod
    def load(cls, path: str | Path, model: nn.Module) -> Trajectory:
        """A run that `record` wrote, mapped into memory.

        Raises:
            ValueError: it is no such file, or of another model; the message names it.
        """
        try:
            with existing(path).open("rb") as stream:
                np.lib.format.read_magic(stream)
            return cls(model, np.load(path, mmap_mode="r"))
        except DataError:
            raise
        except (*BROKEN, SyntaxError, TypeError) as error:
            raise ValueError(f"{path}: {reason(error)}") from None


class TrajectoryDataset(Dataset[Window]):
    """All windows of ``context`` past and up to ``horizon`` future snapshots, each scaled by its own past.

    Args:
        trajectories: runs, of one model or of many.
        context: past snapshots.
        horizon: future snapshots; fewer at the end of a run, at least one.
        stride: snapshots from one state of a window to the next.

    Raises:
        ValueError: there are no runs, or one is too short for a window.
    """

    def __init__(
        self, trajectories: Sequence[Trajectory], context: int = 5, horizon: int = 40, *, stride: int = 1
    ) -> None:
        if not trajectories:
            raise ValueError("trajectories is empty: record at least one run")
        if min(context - 1, horizon, stride) < 1:
            raise ValueError("context must be at least 2, horizon and stride at least 1")
        self.trajectories = list(trajectories)
        self.context = context
        self.horizon = horizon
        self.stride = stride
        self.windows = [len(trajectory.states) - context * stride for trajectory in self.trajectories]
        if min(self.windows) < 1:
            number = self.windows.index(min(self.windows))
            raise ValueError(
                f"trajectory {number} has {len(self.trajectories[number].states)} snapshots, but {context} past "
                f"ones and one to forecast take {context * stride + 1}"
            )
        self.ends = np.cumsum(self.windows)
        self.sizes = [[p.numel() for p in trajectory.model.parameters()] for trajectory in self.trajectories]

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __iter__(self) -> Iterator[Window]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Window:
        """The window of a number, counted through all runs; negative ones from the end."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        index %= len(self)
        number = int(np.searchsorted(self.ends, index, side="right"))
        return self.window(number, index - int(self.ends[number] - self.windows[number]))

    def window(self, number: int, start: int) -> Window:
        """The window of run ``number`` whose first state is snapshot ``start``."""
        trajectory = self.trajectories[number]
        stop = start + (self.context + self.horizon) * self.stride
        rows = trajectory.states[start : stop : self.stride]
        states = (rows if isinstance(rows, Tensor) else torch.from_numpy(np.array(rows))).float().T
        past, mean, std = scale_states(states[:, : self.context], self.sizes[number])
        return Window(number, past, (states[:, self.context :] - mean) / std)

    def batch(self, trajectories: int, slices: int, generator: torch.Generator) -> list[list[Window]]:
        """Runs drawn at random, and of each some windows that start one after the other."""
        batch = []
        for number in torch.randint(len(self.trajectories), (trajectories,), generator=generator).tolist():
            last = max(1, self.windows[number] - slices + 1)
            start = int(torch.randint(last, (1,), generator=generator))
            starts = range(start, min(start + slices, self.windows[number]))
            batch.append([self.window(number, start) for start in starts])
        return batch


def future_error(forecast: Float[Tensor, "parameters horizon"], window: Window) -> Float[Tensor, steps]:
    """Mean absolute error of a scaled forecast at every horizon that the run reaches."""
    future = window.future.to(forecast)
    return (forecast[:, : future.shape[1]] - future).abs().mean(0)
