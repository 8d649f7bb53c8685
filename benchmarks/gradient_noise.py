"""Cost of gradient noise: one draw for all parameters, against a loop of draws, in steps of a 20 x 50 network."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.learning import GradientNoise
from neurarium.models import plain_mlp


def loop(parameters: list[nn.Parameter], sigma: float = 0.1) -> None:
    """What a user would write."""
    with torch.no_grad():
        for p in parameters:
            if p.grad is not None:
                p.grad += torch.randn_like(p.grad) * sigma


def main(repetitions: int = 60) -> None:
    """Print the noise's time as a share of a step, and the ratio loop / ours."""
    torch.set_num_threads(1)
    model = plain_mlp(784, 10)
    parameters = list(model.parameters())
    x, y = torch.randn(100, 784), torch.randint(10, (100,))
    noise = GradientNoise(0.01)

    def step() -> None:
        model.zero_grad()
        cross_entropy(model(x), y).backward()

    works: dict[str, Callable[[], None]] = {
        "step": step,
        "ours": lambda: noise(parameters),
        "loop": lambda: loop(parameters),
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repetitions):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - start)
    found = {name: median(values) for name, values in times.items()}
    print(f"forward and backward {1e3 * found['step']:.2f} ms, noise {1e3 * found['ours']:.2f} ms")
    share, gain = found["ours"] / found["step"], found["loop"] / found["ours"]
    print(f"noise / step {share:.2f} (target <= 0.15); loop / ours {gain:.2f}")


if __name__ == "__main__":
    main()
