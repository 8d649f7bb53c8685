"""Penalties, views and few-shot episodes of the collapse family, each beside what one would write by hand.

- `NeuralCollapseRegularizer` beside the dense form (all distances from examples to centres, masked): milliseconds and
  peak bytes of a forward and backward pass at 1,000 classes, 64 examples, 2,048 features.
- `SelfSupervisedLabelAugmentation` with all views in one pass beside a loop over the four views, 64 images.
- `few_shot_accuracy` beside a loop over scikit-learn's `Ridge`, 200 five-way five-shot episodes of 64 features.

Interleaved, on one thread; medians and ratios.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from sklearn.linear_model import Ridge
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from neurarium.objectives import NeuralCollapseRegularizer, Rotations, SelfSupervisedLabelAugmentation
from neurarium.probes import few_shot_accuracy
from neurarium.training import peak_bytes

REPETITIONS = 7


def dense(h: Tensor, y: Tensor, centers: Tensor) -> Tensor:
    """Both terms from a matrix of examples by classes, with its differences written out."""
    classes = len(centers)
    distances = (h[:, None] - centers[None]).square().sum(2)
    own = nn.functional.one_hot(y, classes).to(h)
    compact = (distances * own / own.sum(0).clamp_min(1)).sum() / classes
    unit = normalize(centers - centers.mean(0), dim=1)
    cosines = unit @ unit.T - 2 * torch.eye(classes)
    return 0.01 * compact - 0.1 * cosines.max(1).values.clamp(-0.99999, 0.99999).acos().mean()


def seconds(call: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare(title: str, ours: Callable[[], object], theirs: Callable[[], object], repetitions: int) -> None:
    """Medians of both, in turn, and their ratio."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repetitions):
        for kept, call in zip(times, (ours, theirs)):
            kept.append(seconds(call))
    a, b = (statistics.median(kept) for kept in times)
    print(f"{title}: {1e3 * a:.1f} ms beside {1e3 * b:.1f} ms ({b / a:.1f} times)")


def penalty() -> None:
    """1,000 classes."""
    reg = NeuralCollapseRegularizer(1000, 2048)
    h, y = torch.randn(64, 2048, requires_grad=True), torch.randint(0, 1000, (64,))

    def ours() -> None:
        reg(h, y).backward()

    def theirs() -> None:
        dense(h, y, reg.centers).backward()

    compare("penalty, 1,000 classes", ours, theirs, 3)
    a, b = peak_bytes(ours), peak_bytes(theirs)
    print(f"  peak {a / 2**20:.0f} MiB beside {b / 2**20:.0f} MiB ({b / a:.0f} times)")


def views() -> None:
    """Four rotations of 64 images."""
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 40),
    )  # fmt: skip
    sla = SelfSupervisedLabelAugmentation(Rotations(), 10)
    x, y = torch.randn(64, 1, 28, 28), torch.randint(0, 10, (64,))

    def ours() -> None:
        given, joint = sla.augment_batch(x, y)
        sla(model(given), joint).backward()

    def theirs() -> None:
        for j in range(4):
            (cross_entropy(model(torch.rot90(x, j, (-2, -1))), 4 * y + j) / 4).backward()

    compare("label augmentation, one pass beside four", ours, theirs, REPETITIONS)


def few_shot() -> None:
    """200 episodes."""
    x, y = torch.randn(4000, 64), torch.arange(4000) % 20
    features, targets = x.double().numpy(), np.eye(5).repeat(5, 0)
    draws = np.random.default_rng(0)

    def theirs() -> None:
        for _ in range(200):
            rows = np.stack([draws.permutation(200)[:20] * 20 + k for k in draws.permutation(20)[:5]])
            head = Ridge(alpha=1.0).fit(features[rows[:, :5].ravel()], targets)
            (head.predict(features[rows[:, 5:].ravel()]).argmax(1) == np.arange(5).repeat(15)).mean()

    compare("few-shot, 200 episodes", lambda: few_shot_accuracy(x, y, shots=5), theirs, REPETITIONS)


if __name__ == "__main__":
    torch.set_num_threads(1)
    penalty()
    views()
    few_shot()
