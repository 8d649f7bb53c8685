"""Matrix products of piecewise affine products: in tiles (ours), against one broadcast over all n x k x m products.

    python benchmarks/piecewise_affine.py

The broadcast is how such products are emulated in plain torch. Prints times side by side in one run, products per
second, and the most memory that each needs for its terms. Torch's own matrix product is there for scale.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from neurarium.layers import pam
from neurarium.layers.pam._sums import TILE

SHAPES = ((1, 960, 32, 64), (1, 960, 64, 32), (1, 32, 960, 64), (240, 16, 16, 16), (1, 256, 256, 256))


def broadcast(a: Tensor, b: Tensor) -> Tensor:
    """All products at once, zeros kept: [batch, n, k, m]."""
    bits = a.view(torch.int32).unsqueeze(3) + (b.view(torch.int32).unsqueeze(1) - 0x3F800000)
    zero = (a == 0).unsqueeze(3) | (b == 0).unsqueeze(1)
    return bits.view(torch.float32).masked_fill(zero, 0).sum(2)


def medians(ways: dict[str, Callable[[], Tensor]], repeats: int = 9) -> dict[str, float]:
    """Median processor seconds of each, the repetitions interleaved."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 2):
        for name, way in ways.items():
            start = time.process_time()
            way()
            if repeat >= 2:
                times[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def compare(title: str, shape: tuple[int, int, int, int], a: Tensor, b: Tensor) -> None:
    """Print one line."""
    batch, n, k, m = shape
    reached = medians(
        {"tiles": lambda: pam.matmul(a, b), "broadcast": lambda: broadcast(a, b), "torch": lambda: torch.matmul(a, b)}
    )
    products = batch * n * k * m
    held = products * 4 / 2**20
    print(
        f"{title} {batch} x [{n} x {k}] [{k} x {m}]: tiles {1e3 * reached['tiles']:.2f} ms "
        f"({products / reached['tiles'] / 1e9:.2f} G products/s, {min(held, TILE * 4 / 2**20):.1f} MiB of terms), "
        f"broadcast {1e3 * reached['broadcast']:.2f} ms ({held:.1f} MiB); "
        f"broadcast / tiles = {reached['broadcast'] / reached['tiles']:.1f}; "
        f"tiles / torch.matmul = {reached['tiles'] / max(reached['torch'], 1e-9):.0f}"
    )


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for shape in SHAPES:
        batch, n, k, m = shape
        a, b = torch.randn(batch, n, k), torch.randn(batch, k, m)
        compare("dense", shape, a, b)
        compare("half zeros", shape, a.relu(), b)


if __name__ == "__main__":
    main()
