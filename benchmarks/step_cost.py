"""One training step of every learning rule against backpropagation's: time, and peak memory of tensors.

Eight hidden layers of 512 ReLU units on batches of 128 MNIST-sized inputs, interleaved, medians of processor time.
Activations kept by few-bit layers are counted with saved-tensor hooks. Run: python benchmarks/step_cost.py
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.compression import convert_activations
from neurarium.learning import Backprop, LearningRule
from neurarium.models import plain_mlp
from neurarium.testing import public
from neurarium.training import peak_bytes, saved_bytes

DEPTH, WIDTH, BATCH, REPETITIONS = 8, 512, 128, 15


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return plain_mlp(784, 10, width=WIDTH, depth=DEPTH)


def seconds(step: Callable[[], object]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    x, y = torch.randn(BATCH, 784), torch.randint(10, (BATCH,))
    built: dict[str, LearningRule] = {}
    for kind in public("learning", LearningRule).values():
        slug = kind.slug
        try:
            built[slug] = kind(network(), cross_entropy)
            built[slug].assign_credit(x, y)
        except (ValueError, TypeError) as refusal:
            built.pop(slug, None)
            print(f"{slug}: not on this network ({refusal})")
    times: dict[str, list[float]] = {slug: [] for slug in built}
    for _, (slug, rule) in itertools.product(range(REPETITIONS), built.items()):
        rule.zero_grad(set_to_none=False)
        times[slug].append(seconds(lambda rule=rule: rule.assign_credit(x, y)))  # type: ignore[misc]
    peaks = {slug: peak_bytes(lambda rule=rule: rule.assign_credit(x, y)) for slug, rule in built.items()}  # type: ignore[misc]
    print(f"{'rule':<22}{'ms':>9}{'x backprop':>12}{'peak MiB':>10}{'x backprop':>12}")
    for slug in sorted(built, key=lambda name: median(times[name])):
        spent, peak = median(times[slug]), peaks[slug]
        print(
            f"{slug:<22}{1e3 * spent:9.1f}{spent / median(times['backprop']):12.2f}"
            f"{peak / 2**20:10.2f}{peak / peaks['backprop']:12.2f}"
        )
    few_bit(x, y)


def few_bit(x: torch.Tensor, y: torch.Tensor) -> None:
    """Bytes that GELU layers keep for the backward pass, at every bit width, against the exact ones."""
    model = nn.Sequential(*[nn.GELU() if isinstance(m, nn.ReLU) else m for m in network()])
    linear = saved_bytes(lambda: cross_entropy(nn.Sequential(*[m for m in model if isinstance(m, nn.Linear)])(x), y))
    base, exact = saved_bytes(lambda: cross_entropy(model(x), y)), Backprop(model, cross_entropy)
    for bits in (1, 2, 3, 4):
        reduced = convert_activations(model, bits).model
        rule = Backprop(reduced, cross_entropy)
        kept = saved_bytes(lambda reduced=reduced: cross_entropy(reduced(x), y))  # type: ignore[misc]
        spent: tuple[list[float], list[float]] = ([], [])
        for _ in range(REPETITIONS):
            for times, each in zip(spent, (exact, rule), strict=True):
                times.append(seconds(lambda each=each: each.assign_credit(x, y)))  # type: ignore[misc]
        fewer, slower = (base - linear) / (kept - linear), median(spent[1]) / median(spent[0])
        print(
            f"{bits}-bit GELU: activations keep {fewer:.1f} times fewer bytes; the step takes {slower:.2f} x the time"
        )


if __name__ == "__main__":
    main()
