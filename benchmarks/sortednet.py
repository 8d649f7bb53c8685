"""What a narrow member of a SortedNet costs: forward passes and training steps, against the plain and a small network.

An MLP 784-256-256-10, batches of 64. The narrow member runs on views of the whole weights; the small network is an
ordinary one of that size; zero-masking is the whole network with its tail units multiplied by zero, as is done where
sub-networks are masks. Repetitions are interleaved; medians are printed.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.compression import SortedNet

BATCH, CALLS, REPETITIONS, WIDTH = 64, 60, 21, 0.25


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))


class Masked(nn.Module):
    """The whole network with only its first units alive."""

    def __init__(self, width: float) -> None:
        super().__init__()
        self.model = mlp()
        self.register_buffer("mask", (torch.arange(256) < width * 256).float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, 784] -> [batch, 10]."""
        first, _, second, _, head = self.model
        return head(self.mask * second(self.mask * first(x).relu()).relu())


def stepper(model: nn.Module) -> Callable[[torch.Tensor, torch.Tensor], None]:
    """One forward and backward pass."""

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        cross_entropy(model(x), y).backward()

    return step


def measure(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median microseconds of each call, interleaved."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(REPETITIONS):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(CALLS):
                call()
            times[name].append(1e6 * (time.perf_counter() - start) / CALLS)
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> None:
    """Print medians and ratios."""
    torch.set_num_threads(1)
    x, y = torch.randn(BATCH, 784), torch.randint(10, (BATCH,))
    plain = mlp()
    net = SortedNet(copy.deepcopy(plain), x[:1], (WIDTH, 0.5, 0.75, 1.0), per_step=1)
    narrow, masked = net.extract(WIDTH), Masked(WIDTH)

    def at(width: float, call: Callable[..., object], *inputs: torch.Tensor) -> None:
        with net.at(width):
            call(*inputs)

    with torch.no_grad():
        forward = measure({
            "plain network": lambda: plain(x),
            "member, full width": lambda: at(1.0, net.model, x),
            "member, quarter width": lambda: at(WIDTH, net.model, x),
            "small network of that size": lambda: narrow(x),
            "zero-masked to that width": lambda: masked(x),
        })  # fmt: skip
    training = measure({
        "plain network": lambda: stepper(plain)(x, y),
        "member, full width": lambda: at(1.0, stepper(net.model), x, y),
        "member, quarter width": lambda: at(WIDTH, stepper(net.model), x, y),
        "small network of that size": lambda: stepper(narrow)(x, y),
        "zero-masked to that width": lambda: stepper(masked)(x, y),
        "SortedNet, one random member": lambda: net.assign_credit(x, y),
    })  # fmt: skip
    for what, found in (("forward", forward), ("forward and backward", training)):
        print(what)
        for name, microseconds in found.items():
            ratio = found["plain network"] / microseconds
            print(f"  {name:30} {microseconds:8.0f} µs   {ratio:5.2f} x the plain network's speed")


if __name__ == "__main__":
    main()
