"""What elastic layers cost beside a SortedNet member: Whittle's Linear and Once-for-all's DynamicLinear, in one run.

An MLP 784-256-256-10, batches of 64, at full and at a quarter of the width, evaluation without gradients. The peers'
networks are written out of their layers, with the same weights; all outputs are checked to be equal before anything is
timed. Repetitions are interleaved; medians are printed.

Needs ``pip install whittle ofa torchvision``, in an environment of its own: Whittle pins many versions.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from ofa.imagenet_classification.elastic_nn.modules.dynamic_op import DynamicLinear
from torch import Tensor, nn
from whittle.modules.linear import Linear as WhittleLinear

from neurarium.compression import SortedNet

BATCH, CALLS, REPETITIONS, SIZES, WIDTH = 64, 60, 21, (784, 256, 256, 10), 0.25


def plain() -> nn.Sequential:
    """The network itself."""
    torch.manual_seed(0)
    a, b, c, d = SIZES
    return nn.Sequential(nn.Linear(a, b), nn.ReLU(), nn.Linear(b, c), nn.ReLU(), nn.Linear(c, d))


class Elastic(nn.Module):
    """The same network out of a peer's layers, with the plain one's weights."""

    def __init__(self, layers: list[nn.Module], weights: nn.Sequential) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        for layer, source in zip(layers, (weights[0], weights[2], weights[4])):
            getattr(layer, "linear", layer).load_state_dict(source.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        """[batch, 784] -> [batch, 10]."""
        first, second, head = self.layers
        return head(second(first(x).relu()).relu())

    def resize(self, width: float) -> None:
        """Make the hidden layers so wide, in the peer's way."""
        ends = [SIZES[0], *(round(width * size) for size in SIZES[1:-1]), SIZES[-1]]
        for layer, size_in, size_out in zip(self.layers, ends, ends[1:]):
            if isinstance(layer, WhittleLinear):
                layer.set_sub_network(size_in, size_out)
            else:
                layer.active_out_features = size_out


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


@torch.no_grad()
def main() -> None:
    """Print medians, and each as a multiple of an ordinary network of that size."""
    torch.set_num_threads(1)
    x, pairs, whole = torch.randn(BATCH, SIZES[0]), list(pairwise(SIZES)), plain()
    nets = [SortedNet(plain(), x[:1], (WIDTH, 1.0)) for _ in range(2)]  # one that switches, one that stays
    peers = {
        name: [Elastic([layer(a, b) for a, b in pairs], whole) for _ in range(2)]
        for name, layer in (("Whittle", WhittleLinear), ("Once-for-all", DynamicLinear))
    }

    def ours(width: float) -> Tensor:
        with nets[0].at(width):
            return nets[0](x)

    def theirs(name: str, width: float) -> Tensor:
        peers[name][0].resize(width)
        return peers[name][0](x)

    for width in (1.0, WIDTH):
        small = nets[0].extract(width)
        with nets[1].at(width):
            calls: dict[str, Callable[[], Tensor]] = {
                "ordinary network": lambda small=small: small(x),
                "SortedNet, width set once": lambda: nets[1](x),
                "SortedNet, set at every call": lambda width=width: ours(width),
            }
            for name, (_, still) in peers.items():
                still.resize(width)
                calls[f"{name}, width set once"] = lambda still=still: still(x)
                calls[f"{name}, set at every call"] = lambda name=name, width=width: theirs(name, width)
            for call in calls.values():
                torch.testing.assert_close(call(), small(x))
            found = measure(calls)
        print(f"width {width:g}")
        for name, microseconds in found.items():
            print(f"  {name:32} {microseconds:8.1f} µs   {microseconds / found['ordinary network']:5.2f} x")


if __name__ == "__main__":
    main()
