"""Time and saved bytes of few-bit activations against the exact ones, side by side in one run.

python benchmarks/few_bit.py
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import nn

from neurarium.layers import FewBitActivation
from neurarium.training import saved_bytes


def step(model: nn.Module, x: torch.Tensor) -> float:
    """Seconds of one forward and backward pass."""
    start = time.perf_counter()
    output = model(x)
    output.backward(output.detach())
    seconds = time.perf_counter() - start
    x.grad = None
    return seconds


def compare(title: str, models: dict[str, nn.Module], x: torch.Tensor, repeats: int = 30) -> None:
    """Medians over interleaved repetitions, saved bytes, and the ratios to the first model."""
    times: dict[str, list[float]] = {name: [] for name in models}
    for repeat in range(repeats + 3):
        for name, model in models.items():
            seconds = step(model, x)
            if repeat >= 3:
                times[name].append(seconds)
    base_time, base_bytes = 0.0, 0
    for name, model in models.items():
        seconds, kept = statistics.median(times[name]), saved_bytes(lambda m=model: m(x))
        base_time, base_bytes = base_time or seconds, base_bytes or kept
        print(
            f"{title:22} {name:12} {1e3 * seconds:7.2f} ms ({seconds / base_time:.2f}x), "
            f"{kept / 2**20:6.2f} MiB kept ({kept / base_bytes:.3f}x)"
        )


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for fn in (nn.GELU(), nn.SiLU()):
        x = torch.randn(1024, 1024, requires_grad=True)
        models = {"exact": fn} | {
            f"{bits} bits" if bits > 1 else "1 bit": FewBitActivation(fn, bits) for bits in (1, 2, 3, 4)
        }
        compare(f"{fn}, 2^20 elements", models, x)
    x = torch.randn(1024, 256, requires_grad=True)
    blocks = {
        name: nn.Sequential(nn.Linear(256, 1024), act, nn.Linear(1024, 256))
        for name, act in {"exact": nn.GELU(), "3 bits": FewBitActivation(nn.GELU(), 3)}.items()
    }
    compare("feed-forward 256-1024", blocks, x)


if __name__ == "__main__":
    main()
