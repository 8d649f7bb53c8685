"""A training step of PEPITA against backpropagation and against per-layer forward hooks.

    python benchmarks/pepita.py

Steps include the optimizer (SGD). Times are medians of processor time over interleaved repetitions in one run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot, softmax

from neurarium.learning import AdaptiveFeedbackAlignment, Backprop, LearningRule, Pepita
from neurarium.models import plain_mlp

Step = Callable[[Tensor, Tensor], object]


def whole(rule: LearningRule) -> Step:
    """A step in the library's form."""
    optimizer = torch.optim.SGD(rule.parameters(), lr=0.01)

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        rule.assign_credit(x, y)
        optimizer.step()

    return step


def by_hooks(model: nn.Sequential) -> Step:
    """What one would write first: hooks that keep the activations, graphs built and not used."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    layers = [m for m in model if isinstance(m, nn.Linear)]
    feedback = 0.03 * torch.randn(784, 10)
    kept: list[Tensor] = []
    for module in model:
        if not isinstance(module, nn.Linear):
            module.register_forward_hook(lambda module, arguments, output: kept.append(output.detach()))

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        kept.clear()
        e = softmax(model(x).detach(), 1) - one_hot(y, 10)
        clean, moved = list(kept), x + e @ feedback.T
        kept.clear()
        model(moved)
        below = [moved, *kept]
        signals = [*(a - b for a, b in zip(clean, kept, strict=True)), e]
        for layer, signal, h in zip(layers, signals, below, strict=True):
            layer.weight.grad = signal.T @ h / len(x)
            layer.bias.grad = signal.mean(0)
        optimizer.step()

    return step


def main() -> None:
    """Print times relative to backpropagation."""
    torch.set_num_threads(1)
    for depth, width, batch in ((1, 512, 64), (1, 1024, 64), (3, 1024, 64), (3, 1024, 512)):
        torch.manual_seed(0)
        x, y = torch.randn(batch, 784), torch.randint(10, (batch,))
        nets = [plain_mlp(784, 10, width=width, depth=depth) for _ in range(4)]
        steps = {
            "backprop": whole(Backprop(nets[0], cross_entropy)),
            "pepita": whole(Pepita(nets[1], cross_entropy)),
            "afa": whole(AdaptiveFeedbackAlignment(nets[2], cross_entropy)),
            "by hooks": by_hooks(nets[3]),
        }
        times: dict[str, list[float]] = {name: [] for name in steps}
        for repeat in range(33 if batch < 100 else 11):
            for name, step in steps.items():
                start = time.process_time()
                step(x, y)
                if repeat >= 3:
                    times[name].append(time.process_time() - start)
        seconds = {name: statistics.median(values) for name, values in times.items()}
        print(f"{depth} hidden layers of {width}, batch {batch}:")
        for name, value in seconds.items():
            print(f"  {name:9} {1e3 * value:7.2f} ms   {value / seconds['backprop']:.2f} x")


if __name__ == "__main__":
    main()
