"""Training-step time of a ReZero layer against a pre-norm layer of equal width, side by side in one run.

    python benchmarks/rezero_layer.py

Also prints the activations that a deep ReZero network keeps for the backward pass with and without checkpointing.
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import nn

from neurarium.models import CausalTransformer, DeepMlp


def step(model: nn.Module, x: torch.Tensor) -> float:
    """Seconds of one forward and backward pass."""
    start = time.perf_counter()
    model(x).square().mean().backward()
    return time.perf_counter() - start


def compare(title: str, models: dict[str, nn.Module], x: torch.Tensor, repeats: int = 30) -> None:
    """Print medians over interleaved repetitions, and the ratio of the first model to the second."""
    times: dict[str, list[float]] = {name: [] for name in models}
    for repeat in range(repeats + 3):
        for name, model in models.items():
            seconds = step(model, x)
            if repeat >= 3:
                times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    first, second = medians
    shown = ", ".join(f"{name} {1e3 * median:.1f} ms" for name, median in medians.items())
    print(f"{title}: {shown}; {first} / {second} = {medians[first] / medians[second]:.2f}")


def saved_bytes(model: nn.Module, x: torch.Tensor) -> int:
    """Bytes kept for the backward pass between the forward pass and its start, the model's own parameters left out."""
    own = {p.data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(t: torch.Tensor) -> torch.Tensor:
        if t.data_ptr() not in own:
            kept[t.data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        output = model(x)
    output.sum().backward()
    return sum(kept.values())


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    blocks = ("rezero", "pre-norm")
    for width, batch in ((64, 64), (256, 128)):
        mlps = {block: DeepMlp(width, 10, width, 32, block) for block in blocks}
        compare(f"fully connected, 32 blocks of width {width}, batch {batch}", mlps, torch.randn(batch, width))
    for width, length in ((64, 64), (256, 64)):
        models = {b: CausalTransformer(256, width, 4, 6, 4 * width, length, b) for b in blocks}
        compare(f"transformer, 6 layers of width {width}, 4 x {length} tokens", models, torch.randint(256, (4, length)))
    for depth in (1000, 10_000):
        x = torch.randn(128, 64)
        whole, segments = (saved_bytes(DeepMlp(64, 10, 64, depth, checkpoint_segments=s), x) for s in (0, 100))
        kept = f"{whole / 2**20:.0f} MiB kept, {segments / 2**20:.0f} MiB in 100 segments"
        print(f"{depth} ReZero blocks of width 64, batch 128: {kept}")


if __name__ == "__main__":
    main()
