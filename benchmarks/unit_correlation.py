"""Correlations of all units of two layers: streamed, beside numpy.corrcoef on activations that are all kept.

Seconds and peak memory of each, and the largest difference of the two tables.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator

import numpy as np
import torch

from neurarium.probes import UnitCorrelation

SAMPLES, UNITS, BATCH = 40_000, 512, 2000


def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Activations as two networks would give them; made anew each time, as a forward pass would."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(64, UNITS, generator=generator), torch.randn(64, UNITS, generator=generator)
    for _ in range(SAMPLES // BATCH):
        z = torch.randn(BATCH, 64, generator=generator)
        yield (z @ mix[0]).relu(), (z @ mix[1]).relu()


def streamed(precision: torch.dtype) -> np.ndarray:
    total = UnitCorrelation(within=False, precision=precision)
    for a, b in batches():
        total.update(a, b)
    return total.table().matrix.numpy()


def kept() -> np.ndarray:
    a, b = (torch.cat(parts).numpy() for parts in zip(*batches()))
    return np.corrcoef(a, b, rowvar=False)[:UNITS, UNITS:]


def main() -> None:
    torch.set_num_threads(1)
    found = {}
    for name, compute in {
        "numpy.corrcoef": kept,
        "streamed, float64": lambda: streamed(torch.float64),
        "streamed, float32": lambda: streamed(torch.float32),
    }.items():
        start = time.perf_counter()
        found[name] = compute()
        seconds = time.perf_counter() - start
        tracemalloc.start()
        if name == "numpy.corrcoef":
            compute()
        peak = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        memory = f", {peak:.0f} MiB of NumPy's" if peak > 1 else f", sums of {8 * UNITS**2 / 2**20:.0f} MiB"
        difference = float(np.abs(found[name] - found["numpy.corrcoef"]).max())
        print(f"{name:<20} {seconds:.2f} s{memory}, largest difference {difference:.1e}")


if __name__ == "__main__":
    main()
