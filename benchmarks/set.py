"""Cost of a sparse layer that rewires itself: training step, memory and evolution at width 2,048.

A training step (forward, gradients of inputs and weights, SGD with momentum) of one layer at several densities against
the dense layer and against the dense layer with a mask held; bytes of parameters, gradients and momenta; and one
evolution against the same on a `scipy.sparse.lil_matrix`, entry by entry, as published code does it. Repetitions are
interleaved; medians are printed.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse import lil_matrix
from torch import nn

from neurarium.compression import Masks, SparseEvolution
from neurarium.layers import SparseLinear

WIDTH, BATCH, REPETITIONS, DENSITIES = 2048, 100, 9, (0.05, 0.02, 0.01)


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)


def stepper(model: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """A function that takes one training step."""
    x = torch.randn(BATCH, WIDTH, requires_grad=True)

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


def timed(contestants: dict[str, Callable[[], object]], repetitions: int = REPETITIONS) -> dict[str, float]:
    """Median milliseconds of each, repetitions interleaved."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for function in contestants.values():
        function()
    for _ in range(repetitions):
        for name, function in contestants.items():
            start = time.perf_counter()
            function()
            times[name].append(1e3 * (time.perf_counter() - start))
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
    full = held_bytes(dense)
    print(f"{'':18s}{'step ms':>9s}{'faster':>8s}{'MiB':>8s}{'smaller':>9s}")
    for name, median in medians.items():
        layer = sparse.get(next((d for d in DENSITIES if name == f"sparse {d:.0%}"), 0.0))
        size = held_bytes(layer) if layer else full + (WIDTH**2 * 5 if "mask" in name else 0)
        print(f"{name:18s}{median:9.2f}{medians['dense'] / median:8.1f}{size / 2**20:8.2f}{full / size:9.1f}")
    layer = sparse[0.01]
    matrix = lil_matrix(layer.dense_weight().numpy())
    ours, theirs = SparseEvolution(layer), "entry by entry, lil_matrix"
    evolutions = timed({"ours": lambda: ours.evolve(), theirs: lambda: evolve_entry_by_entry(matrix)}, repetitions=3)
    print(f"\nevolution at 1 %: ours {evolutions['ours']:.1f} ms, {theirs} {evolutions[theirs]:.1f} ms "
          f"({evolutions[theirs] / evolutions['ours']:.0f} times)")  # fmt: skip
    share = evolutions["ours"] / (100 * medians["sparse 1%"])
    print(f"evolution as a share of an epoch of 100 steps: {share:.2%}")


if __name__ == "__main__":
    main()
