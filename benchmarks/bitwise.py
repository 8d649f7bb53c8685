"""A training step of LeNet-300-100 with trained bits against floats, and against a plain loop over the planes.

Run: python benchmarks/bitwise.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrize

from neurarium.layers import bitwise

REPETITIONS = 40


class PlainPlanes(nn.Module):
    """The same weights by one multiplication per plane and autograd's own gradient."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, x: Tensor) -> Tensor:
        b = [(plane > 0).to(x) + plane - plane.detach() for plane in x]
        return 1e-9 * (1 - 2 * b[-1]) * sum(2**i * b[i] for i in range(self.bits - 1))  # type: ignore[operator]

    def right_inverse(self, weight: Tensor) -> Tensor:
        return 0.1 * torch.randn(self.bits, *weight.shape)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))


def plain(bits: int) -> nn.Sequential:
    model = network()
    for layer in (model[0], model[2], model[4]):
        parametrize.register_parametrization(layer, "weight", PlainPlanes(bits))
    return model


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, y = torch.randn(128, 784), torch.randint(10, (128,))
    models = {
        "float": network(), "8 of 8": bitwise(network(), 8).model, "3 of 32": bitwise(network(), 32, trainable=3).model,
        "plain loop, 8 of 8": plain(8), "plain loop, 32 of 32": plain(32),
    }  # fmt: skip
    steps: dict[str, Callable[[], None]] = {}
    for name, model in models.items():
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)

        def step(model: nn.Module = model, optimizer: torch.optim.Optimizer = optimizer) -> None:
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()

        steps[name] = step
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repetition in range(REPETITIONS + 3):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if repetition >= 3:
                times[name].append(time.perf_counter() - start)
    base = median(times["float"])
    for name, spent in times.items():
        print(f"{name:<22}{1e3 * median(spent):8.2f} ms{median(spent) / base:8.2f} x floats")


if __name__ == "__main__":
    main()
