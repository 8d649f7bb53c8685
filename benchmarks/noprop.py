"""One training step of NoProp against backpropagation through the same chain of blocks, side by side in one run.

    python benchmarks/noprop.py

Prints milliseconds of processor time (medians over interleaved repetitions), their ratio, and the bytes of activations
kept.
"""

from __future__ import annotations

import statistics
import time

import torch
from torch.nn.functional import cross_entropy

from neurarium.learning import Backprop, NoProp
from neurarium.models import DenoisingBlock
from neurarium.training import saved_bytes


def make_chain(steps: int, channels: tuple[int, ...], width: int) -> NoProp:
    """T convolutional blocks on 28 x 28 images of 10 classes."""

    def block(step: int, embed_dim: int) -> DenoisingBlock:
        return DenoisingBlock((1, 28, 28), embed_dim, 10, channels=channels, width=width)

    return NoProp(block, num_classes=10, steps=steps)


def kept(chain: NoProp, x: torch.Tensor, y: torch.Tensor) -> tuple[int, int]:
    """Bytes of activations kept for the backward pass of the largest block, and of the whole chain."""
    blocks = [saved_bytes(lambda t=t: chain.block_loss(t, x, y)) for t in range(1, chain.steps + 1)]
    return max(blocks), saved_bytes(lambda: cross_entropy(chain(x), y))


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, y = torch.randn(128, 1, 28, 28), torch.randint(10, (128,))
    for steps, channels, width in ((6, (8, 16), 64), (10, (16, 32), 128)):
        chain = make_chain(steps, channels, width)
        rules = {"noprop": chain, "backprop": Backprop(make_chain(steps, channels, width), cross_entropy)}
        times: dict[str, list[float]] = {name: [] for name in rules}
        for repeat in range(12):
            for name, rule in rules.items():
                rule.zero_grad()
                start = time.process_time()
                rule.assign_credit(x, y)
                if repeat >= 2:
                    times[name].append(time.process_time() - start)
        ours, peer = (1e3 * statistics.median(values) for values in times.values())
        one, whole = kept(chain, x, y)
        print(
            f"{steps} blocks of {channels} + {width}: noprop {ours:.0f} ms, backprop {peer:.0f} ms, ratio "
            f"{ours / peer:.2f}; kept {one / 2**20:.1f} and {whole / 2**20:.1f} MiB, ratio {one / whole:.2f}"
        )


if __name__ == "__main__":
    main()
