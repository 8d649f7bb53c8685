"""One trial: what is to be done, doing it, and what came out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import platform
import random
import resource
import sys
import time
import traceback
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from neurarium.lab._run import Progress, Run
from neurarium.lab.registry import load_module


@dataclass(frozen=True)
class Task:
    """A trial to be run; plain data that any executor can send.

    Args:
        study: slug of the study.
        trial: "module:function" of the trial; a user's file is named by its path.
        kind: "module:class" of its settings.
        arm: name of the arm.
        seed: the seed.
        scale: name of the scale.
        settings: the fields of the arm's settings at that scale.
        fingerprint: of the code the trial depends on.
        device: torch device.
        threads: torch threads; part of the result, since sums depend on how they are split.
        folder: where artifacts go; empty to keep none.
        path: entries for `sys.path`, so that a user's modules are found in a worker.
    """

    study: str
    trial: str
    kind: str
    arm: str
    seed: int
    scale: str
    settings: dict[str, Any]
    fingerprint: str
    device: str = "cpu"
    threads: int = 1
    folder: str = ""
    path: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Identity of the result: everything that the numbers are a function of."""
        identity = [self.study, self.arm, self.seed, self.scale, self.settings, self.fingerprint]
        identity += [self.device, self.threads]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def plain(settings: Any) -> dict[str, Any]:
    """The fields of a settings dataclass."""
    return dataclasses.asdict(settings)


def address(thing: Any, source: str) -> str:
    """Where a worker finds a top-level function or class: "module:name"; what stands in ``source``, a file, by path."""
    module = source if thing.__module__ == load_module(source).__name__ else thing.__module__
    return f"{module}:{thing.__qualname__}"


def at_address(name: str) -> Any:
    """What `address` named."""
    source, _, attribute = name.rpartition(":")
    return getattr(load_module(source), attribute)


@dataclass(frozen=True)
class Outcome:
    """What came out of a trial.

    Args:
        status: whether the trial returned metrics.
        metrics: name -> number.
        curves: recorded rows.
        wall: seconds on the clock.
        cpu: seconds of processor time, all threads.
        peak_memory: bytes at the most: of tensors on the GPU where the trial ran there, else the resident size.
        traceback: of a failed trial.
        environment: versions and machine.
        finished: time of the end, seconds since 1970.
    """

    status: Literal["done", "failed"]
    metrics: dict[str, float] = field(default_factory=dict)
    curves: list[dict[str, Any]] = field(default_factory=list)
    wall: float = 0.0
    cpu: float = 0.0
    peak_memory: int = 0
    traceback: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    finished: float = 0.0


def execute(task: Task, progress: Progress) -> Outcome:
    """Run a trial; an exception in it becomes a failed outcome, an interrupt goes on upwards."""
    import torch

    random.seed(task.seed)
    np.random.seed(task.seed % 2**32)  # noqa: NPY002 - libraries that still draw from it
    torch.manual_seed(task.seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(task.threads)
    with_gpu = prepare_gpu(task.device)
    run = Run(task.seed, task.device, Path(task.folder) if task.folder else None, progress)
    reset_peak_memory()
    wall, cpu = time.perf_counter(), time.process_time()
    metrics: dict[str, float] = {}
    failure = ""
    try:
        sys.path.extend(entry for entry in task.path if entry not in sys.path)
        settings = at_address(task.kind)(**task.settings)
        metrics = _checked(at_address(task.trial)(settings, run))
        if with_gpu:
            torch.cuda.synchronize(task.device)  # what is still queued there is part of the trial's seconds
    except Exception:
        failure = traceback.format_exc()
    finally:
        torch.set_num_threads(threads)
    return Outcome(
        status="failed" if failure else "done",
        metrics=metrics,
        curves=run.curves,
        wall=time.perf_counter() - wall,
        cpu=time.process_time() - cpu,
        peak_memory=torch.cuda.max_memory_allocated(task.device) if with_gpu else peak_memory(),
        traceback=failure,
        environment=environment(),
        finished=time.time(),
    )


def prepare_gpu(device: str) -> bool:
    """Make a CUDA device compute the same numbers every time and count its memory anew; False for any other device.

    An operation that has no deterministic form there warns and runs. On the CPU one number of threads always gives the
    same sums, so nothing is changed there. New memory is not filled: that costs time, and serves debugging alone.
    """
    import torch

    if not device.startswith("cuda"):
        return False
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first matrix product is made
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.cuda.reset_peak_memory_stats(device)
    return True


def _checked(metrics: Any) -> dict[str, float]:
    if not hasattr(metrics, "items") or not metrics:
        raise TypeError("a trial must return a dictionary of metrics")
    return {str(name): float(number) for name, number in metrics.items()}


@cache
def environment() -> dict[str, str]:
    """Versions of what the numbers depend on, and the machine."""
    import scipy
    import torch

    import neurarium

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "neurarium": neurarium.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "gpu": gpu,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        return platform.processor()
    return platform.processor()


def reset_peak_memory() -> None:
    """Start measuring the peak anew, where the system allows it (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory() -> int:
    """Largest resident size since the last reset (or since the process began), in bytes."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def finite(number: float) -> float | None:
    """A number for JSON: None where it is not finite."""
    return number if math.isfinite(number) else None
