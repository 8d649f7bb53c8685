"""A training step of Mono-Forward against backpropagation and against hand-written layers with an optimizer each.

    python benchmarks/mono_forward.py

Steps include the optimizer (SGD). Times are medians of processor time over interleaved repetitions in one run; memory
is the most bytes of tensors alive at one moment of a step, the same on every machine.
"""

from __future__ import annotations

import functools
import itertools
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.learning import Backprop, LearningRule, MonoForward
from neurarium.models import plain_mlp
from neurarium.training import peak_bytes

Step = Callable[[Tensor, Tensor], object]


def whole(rule: LearningRule) -> Step:
    """One optimizer for all parameters."""
    optimizer = torch.optim.SGD(rule.parameters(), lr=0.01)

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        rule.assign_credit(x, y)
        optimizer.step()

    return step


def fused(rule: MonoForward) -> Step:
    """Every block stepped as soon as it has its gradient."""
    rule.fuse(lambda parameters: torch.optim.SGD(parameters, lr=0.01))
    return rule.assign_credit


def by_hand(width: int, depth: int) -> Step:
    """What one would write without a library: a list of layers, matrices and optimizers."""
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise([784] + [width] * depth)]
    matrices = [nn.Linear(width, 10, bias=False) for _ in layers]
    optimizers = [
        torch.optim.SGD([*layer.parameters(), *matrix.parameters()], lr=0.01)
        for layer, matrix in zip(layers, matrices, strict=True)
    ]

    def step(x: Tensor, y: Tensor) -> None:
        for layer, matrix, optimizer in zip(layers, matrices, optimizers, strict=True):
            a = layer(x).relu()
            optimizer.zero_grad()
            cross_entropy(matrix(a), y).backward()
            optimizer.step()
            x = a.detach()

    return step


def main() -> None:
    """Print times and memory relative to backpropagation."""
    torch.set_num_threads(1)
    for depth, width, batch in ((2, 500, 128), (2, 1000, 128), (8, 256, 128), (5, 500, 2000), (8, 500, 2000)):
        torch.manual_seed(0)
        x, y = torch.randn(batch, 784), torch.randint(10, (batch,))
        nets = [plain_mlp(784, 10, width=width, depth=depth) for _ in range(3)]
        steps = {
            "backprop": whole(Backprop(nets[0], cross_entropy)),
            "mono-forward": whole(MonoForward(nets[1], cross_entropy)),
            "fused": fused(MonoForward(nets[2], cross_entropy)),
            "by hand": by_hand(width, depth),
        }
        times: dict[str, list[float]] = {name: [] for name in steps}
        for repeat in range((25 if batch < 1000 else 5) + 2):
            for name, step in steps.items():
                start = time.process_time()
                step(x, y)
                if repeat >= 2:
                    times[name].append(time.process_time() - start)
        seconds = {name: statistics.median(values) for name, values in times.items()}
        peaks = {name: peak_bytes(functools.partial(step, x, y)) for name, step in steps.items()}
        print(f"{depth} hidden layers of {width}, batch {batch}:")
        for name in steps:
            slower, larger = seconds[name] / seconds["backprop"], peaks[name] / peaks["backprop"]
            amount = f"{1e3 * seconds[name]:7.1f} ms  {peaks[name] / 2**20:6.1f} MiB"
            print(f"  {name:13} {amount}   {slower:.2f} x time, {larger:.2f} x memory")


if __name__ == "__main__":
    main()
