"""Cost of holding a mask through training, and of training the kept weights alone.

LeNet-300-100, batches of 60, Adam: unmasked, with our step hooks, with `torch.nn.utils.prune` (which multiplies weight
and mask in every forward pass), and as `SparseLinear`. Repetitions are interleaved; medians of processor time are
printed.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

from neurarium.compression import Masks, prunable
from neurarium.layers import sparsify

BATCH, STEPS, REPETITIONS = 60, 40, 15


def lenet() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))


def stepper(model: nn.Module, masks: Masks | None = None) -> Callable[[], None]:
    """A function that takes one training step."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1.2e-3, weight_decay=1e-4, fused=True)
    if masks is not None:
        masks.attach(optimizer)
    x, y = torch.randn(BATCH, 784), torch.randint(10, (BATCH,))

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def masked(density: float) -> tuple[nn.Module, Masks]:
    """LeNet with random masks of a density."""
    model = lenet()
    masks = Masks(prunable(model))
    masks.keep({name: torch.rand(masks[name].shape) < density for name in masks})
    return model, masks


def pruned_by_torch(model: nn.Module, masks: Masks) -> nn.Module:
    """The same masks through `torch.nn.utils.prune`."""
    result = copy.deepcopy(model)
    for name in masks:
        prune.custom_from_mask(result.get_submodule(name.removesuffix(".weight")), "weight", masks[name])
    return result


def main() -> None:
    """Print medians and ratios for two densities."""
    torch.set_num_threads(1)
    for density in (0.2, 0.05):
        ours, masks = masked(density)
        steps = {
            "unmasked": stepper(lenet()),
            "ours": stepper(ours, masks),
            "torch.nn.utils.prune": stepper(pruned_by_torch(ours, masks)),
            "SparseLinear": stepper(sparsify(ours, max_density=0.5).model),
        }
        times: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(REPETITIONS):
            for name, step in steps.items():
                start = time.process_time()
                for _ in range(STEPS):
                    step()
                times[name].append((time.process_time() - start) / STEPS)
        median = {name: statistics.median(values) for name, values in times.items()}
        print(f"{density:.0%} of the weights kept, {STEPS} steps a repetition, {REPETITIONS} repetitions")
        for name, seconds in median.items():
            print(f"  {name:22s} {1e3 * seconds:7.3f} ms a step   {seconds / median['unmasked']:5.2f} x unmasked")
        print(f"  torch.nn.utils.prune / ours: {median['torch.nn.utils.prune'] / median['ours']:.2f}")
        print(f"  unmasked / SparseLinear:     {median['unmasked'] / median['SparseLinear']:.2f}")


if __name__ == "__main__":
    main()
