"""Cost of a sparse layer that rewires itself: training steps and evolutions, memory, and which product is faster where.

A training step (forward, gradients of inputs and weights, SGD with momentum) of a layer of width 2,048 at several
densities against the dense layer and against the dense layer with a mask held, with an evolution after every hundred
steps counted in; bytes of parameters, gradients and momenta; one evolution against the same on a
`scipy.sparse.lil_matrix`, entry by entry, as published code does it. Then the two ways a `SparseLinear` multiplies, at
other widths. One core; repetitions are interleaved; medians of processor time are printed.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.sparse import lil_matrix
from torch import nn

from neurarium.compression import Masks, SparseEvolution
from neurarium.layers import SparseLinear

WIDTH, BATCH, REPETITIONS, DENSITIES = 2048, 100, 9, (0.05, 0.02, 0.01)
EPOCH = 100  # steps between evolutions
WIDTHS, WAYS = (64, 128, 256, 512, 1024), (0.2, 0.1, 0.05, 0.01)
MANY = 10  # steps at a time


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)


def stepper(model: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """A function that takes one training step."""
    width = model.bias.shape[0]
    x = torch.randn(BATCH, width, requires_grad=True)

    def step() -> None:
        optimizer.zero_grad()
        x.grad = None
        model(x).square().mean().backward()
        optimizer.step()

    return step


def held_bytes(model: nn.Module) -> int:
    """Bytes of parameters, buffers, gradients and momenta."""
    return sum(3 * p.nbytes for p in model.parameters()) + sum(b.nbytes for b in model.buffers())


def evolve_entry_by_entry(matrix: lil_matrix, zeta: float = 0.3) -> None:
    """One evolution of a list-of-lists matrix in place."""
    rows, columns = matrix.nonzero()
    values = np.array([matrix[i, j] for i, j in zip(rows, columns, strict=True)])
    positive, negative = np.sort(values[values > 0]), np.sort(-values[values < 0])
    high, low = positive[int(zeta * len(positive))], -negative[int(zeta * len(negative))]
    weak = [(i, j) for i, j, v in zip(rows, columns, values, strict=True) if low < v < high]
    for i, j in weak:
        matrix[i, j] = 0
    grown = 0
    while grown < len(weak):
        i, j = random.randrange(matrix.shape[0]), random.randrange(matrix.shape[1])
        if matrix[i, j] == 0:
            matrix[i, j] = random.gauss(0, 0.05)
            grown += 1


def timed(contestants: dict[Any, Callable[[], object]], repetitions: int = REPETITIONS) -> dict[Any, float]:
    """Median milliseconds of each, repetitions interleaved."""
    times: dict[Any, list[float]] = {name: [] for name in contestants}
    for function in contestants.values():
        function()
    for _ in range(repetitions):
        for name, function in contestants.items():
            start = time.process_time()
            function()
            times[name].append(1e3 * (time.process_time() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Print medians and ratios."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dense = nn.Linear(WIDTH, WIDTH)
    masked = nn.Linear(WIDTH, WIDTH)
    masks = Masks({"weight": masked.weight})
    masks.keep({"weight": torch.rand(WIDTH, WIDTH) < 0.05})
    held = optimizer_of(masked)
    masks.attach(held)
    sparse = {density: SparseLinear(WIDTH, WIDTH, density) for density in DENSITIES}
    medians = timed(
        {
            "dense": stepper(dense, optimizer_of(dense)),
            "dense, mask held": stepper(masked, held),
            **{f"sparse {d:.0%}": stepper(layer, optimizer_of(layer)) for d, layer in sparse.items()},
        }
    )
    evolving = timed({d: SparseEvolution(layer).evolve for d, layer in sparse.items()})
    full = held_bytes(dense)
    print(f"{'':18s}{'step ms':>9s}{'evolution ms':>14s}{'faster':>8s}{'MiB':>8s}{'smaller':>9s}")
    for name, median in medians.items():
        density = next((d for d in DENSITIES if name == f"sparse {d:.0%}"), 0.0)
        size = held_bytes(sparse[density]) if density else full + (WIDTH**2 * 5 if "mask" in name else 0)
        evolution = evolving.get(density, 0.0)
        ratio = medians["dense"] / (median + evolution / EPOCH)
        print(f"{name:18s}{median:9.2f}{evolution:14.2f}{ratio:8.1f}{size / 2**20:8.2f}{full / size:9.1f}")
    layer = sparse[0.01]
    matrix = lil_matrix(layer.dense_weight().numpy())
    theirs = timed({"theirs": lambda: evolve_entry_by_entry(matrix)}, repetitions=3)["theirs"]
    print(f"\nevolution at 1 %: ours {evolving[0.01]:.1f} ms, entry by entry, lil_matrix {theirs:.1f} ms "
          f"({theirs / evolving[0.01]:.0f} times)")  # fmt: skip
    print("\nstep in ms: dense, and by density csr / mask (* the one that is chosen)")
    for width in WIDTHS:
        plain = nn.Linear(width, width)
        layers = {
            (d, way): SparseLinear(width, width, d, storage=way) for d in WAYS for way in ("csr", "mask")
        }  # fmt: skip
        steps: dict[Any, Callable[[], None]] = {"dense": stepper(plain, optimizer_of(plain))}
        steps |= {key: stepper(layer, optimizer_of(layer)) for key, layer in layers.items()}
        # many at a time: a small layer's step among others' measures their traces in the caches
        found = timed({key: lambda step=step: [step() for _ in range(MANY)] for key, step in steps.items()})
        found = {key: milliseconds / MANY for key, milliseconds in found.items()}
        told = []
        for d in WAYS:
            chosen = SparseLinear(width, width, d).stores
            told.append(" / ".join(f"{found[d, way]:.2f}{'*' * (way == chosen)}" for way in ("csr", "mask")))
        print(f"{width:6d}{found['dense']:8.2f}   " + "   ".join(f"{d:.0%}: {t}" for d, t in zip(WAYS, told)))


if __name__ == "__main__":
    main()
