"""A deep residual stack against the same branches side by side and as one wide layer: time of a step, and latency.

    python benchmarks/shallow_again.py [--threads 2]

Each line is one shape: milliseconds of the sequential stack, and the ratio of each layout to it (below 1 is faster),
medians over interleaved repetitions. Wide layers have equal work in both layouts, and there the ratio tells what one
call costs more or less than many. The last column is the memory that is kept for the backward pass.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from neurarium.layers import Residual, parallelise
from neurarium.training import saved_bytes


def stack(depth: int, channels: int) -> nn.Sequential:
    """Residual convolutions of one width."""
    torch.manual_seed(0)
    return nn.Sequential(
        *[Residual(nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())) for _ in range(depth)]
    )


def compare(uses: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, interleaved."""
    times: dict[str, list[float]] = {name: [] for name in uses}
    for repeat in range(repeats + 3):
        for name, use in uses.items():
            start = time.perf_counter()
            use()
            if repeat >= 3:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def loss(model: nn.Module, x: Tensor) -> Tensor:
    """A scalar of the output."""
    return model(x).square().mean()


def step(model: nn.Module, x: Tensor) -> None:
    """Forward and backward."""
    loss(model, x).backward()


def latency(model: nn.Module, x: Tensor) -> None:
    """Forward alone."""
    with torch.inference_mode():
        model(x)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--shapes", type=int, default=6, help="how many of the shapes")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for what, use, batch in (("step", step, 64), ("latency", latency, 1)):
        for depth, channels, side in ((8, 8, 14), (4, 8, 14), (16, 8, 14), (8, 32, 14), (8, 64, 14), (8, 8, 56))[
            : options.shapes
        ]:
            deep = stack(depth, channels)
            models = {
                "sequential": deep,
                "parallel": parallelise(deep).model,
                "broad": parallelise(deep, fuse=True).model,
                "order 2": parallelise(deep, order=2).model,
            }
            x = torch.randn(batch, channels, side, side)
            found = compare({n: partial(use, m, x) for n, m in models.items()}, options.repeats)
            ratios = ", ".join(f"{n} {t / found['sequential']:.2f}" for n, t in found.items() if n != "sequential")
            kept = {n: saved_bytes(partial(loss, m, x)) for n, m in models.items()}
            print(
                f"{what:8} batch {batch:3}, depth {depth:2}, {channels:2} channels, {side} x {side}: sequential "
                f"{1e3 * found['sequential']:6.2f} ms; {ratios}; keeps {kept['broad'] / kept['sequential']:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
