"""Homology beside gudhi (grids) and ripser (points): the same numbers, and milliseconds.

- `betti_numbers` of random masks and of smooth regions of 128 and 512 points a side, beside `gudhi.CubicalComplex`;
- `grid_persistence` of a smooth and of a random picture, beside the persistence of the same complex;
- `point_cloud_homology`'s bars of 300 and 1,000 points in 2 and 5 dimensions, beside `ripser`.

Interleaved, on one thread; medians and ratios. ``pip install neurarium[topology]``.
"""

import statistics
import time
from collections.abc import Callable

import gudhi
import numpy as np
import torch
from ripser import ripser

from neurarium.probes import betti_numbers, grid_persistence
from neurarium.probes.topology._rips import rips_bars


def compare(title: str, ours: Callable[[], object], theirs: Callable[[], object], repetitions: int = 5) -> None:
    """Medians of both, in turn, and their ratio."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repetitions):
        for kept, call in zip(times, (ours, theirs)):
            start = time.process_time()
            call()
            kept.append(time.process_time() - start)
    a, b = (statistics.median(kept) for kept in times)
    print(f"{title}: {1e3 * a:.1f} ms beside {1e3 * b:.1f} ms ({b / a:.1f} times)")


def cubical(values: np.ndarray) -> tuple[int, int]:
    """gudhi's Betti numbers of the closed pixels of value 0."""
    complex_ = gudhi.CubicalComplex(top_dimensional_cells=values)
    complex_.compute_persistence()
    found = complex_.persistent_betti_numbers(0.0, 0.5)
    return found[0], found[1]


def bars(values: np.ndarray) -> list[np.ndarray]:
    """gudhi's bars of the superlevel sets."""
    complex_ = gudhi.CubicalComplex(top_dimensional_cells=-values)
    complex_.compute_persistence()
    return [-complex_.persistence_intervals_in_dimension(d) for d in (0, 1)]


def smooth(size: int) -> np.ndarray:
    """A picture with some hills."""
    line = np.linspace(-1, 1, size)
    return np.sin(9 * line)[:, None] * np.sin(8 * line) + 0.3 * np.sin(5 * line[:, None] + 7 * line)


def main() -> None:
    """All comparisons; each is of equal results."""
    draw = np.random.default_rng(0)
    for size in (128, 512):
        for name, mask in (("random", draw.random((size, size)) < 0.5), ("smooth", smooth(size) > 0)):
            values = np.where(mask, 0.0, 1.0)
            assert betti_numbers(mask).numbers == cubical(values)
            compare(f"Betti numbers, {name}, {size}", lambda m=mask: betti_numbers(m), lambda v=values: cubical(v))
    for name, picture in (("random", draw.normal(size=(128, 128))), ("smooth", smooth(128))):
        mine, theirs = grid_persistence(torch.from_numpy(picture)).diagrams, bars(picture)
        for a, b in zip(mine, theirs):
            np.testing.assert_allclose(sorted(map(tuple, a.numpy())), sorted(map(tuple, b)), atol=1e-12)
        compare(
            f"persistence, {name}, 128", lambda p=picture: grid_persistence(torch.from_numpy(p)),
            lambda p=picture: bars(p),
        )  # fmt: skip
    for count, dimensions in ((300, 2), (1000, 2), (1000, 5)):
        points = draw.normal(size=(count, dimensions))
        distance = np.linalg.norm(points[:, None] - points[None], axis=2)
        wanted = ripser(distance, distance_matrix=True)["dgms"][1]
        np.testing.assert_allclose(sorted(map(tuple, rips_bars(distance)[1])), sorted(map(tuple, wanted)), atol=1e-5)
        compare(
            f"Rips, {count} points in {dimensions} dimensions", lambda d=distance: rips_bars(d),
            lambda d=distance: ripser(d, distance_matrix=True), 3,
        )  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
