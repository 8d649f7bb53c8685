"""The loss along a line: `loss_along_line` beside a loop over deep copies of the model.

Both evaluate 29 alphas on the same 2,000 images, interleaved, on one thread; the medians and their ratio are printed,
with the largest difference between the two curves.
"""

import copy
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import Arrays, Batches
from neurarium.probes import loss_along_line

REPETITIONS = 7


def by_copies(start: nn.Module, end: nn.Module, loader: Batches, alphas: np.ndarray) -> np.ndarray:
    """The usual loop: copy the model, write the mixed parameters, evaluate."""
    curve = []
    with torch.no_grad():
        for alpha in alphas.tolist():
            model = copy.deepcopy(start).eval()
            for p, a, b in zip(model.parameters(), start.parameters(), end.parameters()):
                p.copy_((1 - alpha) * a + alpha * b)
            total = sum(float(cross_entropy(model(x), y)) * len(y) for x, y in loader)
            curve.append(total / len(loader.arrays))
    return np.array(curve)


def mlp() -> nn.Module:
    """784-128-128-10."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def small_mlp() -> nn.Module:
    """784-16-10."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 10))


def cnn() -> nn.Module:
    """Two convolutions and a linear layer."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28)),
        nn.Conv2d(1, 8, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(400, 10),
    )


class Residual(nn.Module):
    """A network that is no chain: nothing but the parameter buffer is saved."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(784, 128), nn.Linear(128, 128), nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x.flatten(1)).relu()
        return self.last(h + self.second(h).relu())


def main() -> None:
    """Print a table of medians in milliseconds and ratios."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = Arrays(torch.randn(2000, 28, 28), torch.randint(10, (2000,)))
    print(f"{'network':<12}{'batch':>6}{'copies':>10}{'ours':>10}{'ratio':>8}{'difference':>13}")
    for build in (mlp, small_mlp, cnn, Residual):
        for size in (32, 250, 2000):
            start, end, loader = build(), build(), Batches(data, size)
            path = loss_along_line(start, cross_entropy, loader, start, end)
            other = by_copies(start, end, loader, path.alpha)
            ways: list[Callable[[], object]] = [
                lambda s=start, e=end, b=loader, a=path.alpha: by_copies(s, e, b, a),
                lambda s=start, e=end, b=loader: loss_along_line(s, cross_entropy, b, s, e),
            ]
            times: list[list[float]] = [[], []]
            for _ in range(REPETITIONS):
                for way, seconds in zip(ways, times):
                    began = time.perf_counter()
                    way()
                    seconds.append(time.perf_counter() - began)
            copies, ours = (1000 * statistics.median(seconds) for seconds in times)
            worst = np.abs(path.loss - other).max()
            print(
                f"{build.__name__:<12}{size:>6}{copies:>8.0f}ms{ours:>8.0f}ms{copies / ours:>7.1f}x{worst:>13.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
