"""A step of OPERA beside the same written by hand: MoCo v3's two passes, a loop over parameters for the slow copy.

Three strided convolutions on 128 images of 28 x 28, views included in neither. Interleaved, on one thread; medians and
their ratio.
"""

import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from neurarium.objectives import OmniSupervised

REPETITIONS = 15


def network() -> nn.Sequential:
    """64 features."""

    def block(before: int, after: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]

    return nn.Sequential(*block(1, 16), *block(16, 32), *block(32, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def seconds(call: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Both, in turn."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    ours = OmniSupervised(network(), 64, 10, hidden_dim=512, projection_dim=64)
    theirs = copy.deepcopy(ours)
    base = nn.Sequential(theirs.backbone, theirs.projector)
    slow = copy.deepcopy(base).requires_grad_(False)
    level = theirs.supervision.stack[1]
    views, y = torch.randn(2, 128, 1, 28, 28), torch.arange(128) % 10

    def by_hand() -> None:
        with torch.no_grad():
            for p, q in zip(slow.parameters(), base.parameters()):
                p.data = p.data * 0.99 + q.data * 0.01
            keys = [slow(view) for view in views]
        loss = torch.zeros(())
        for view, key in zip(views, reversed(keys)):
            q = theirs.predictor(base(view))
            logits = normalize(q, dim=1) @ normalize(key, dim=1).T / 0.2
            loss = loss + 0.2 * cross_entropy(logits, torch.arange(128)) + 0.5 * cross_entropy(level(q)[1], y)
        loss.backward()

    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(REPETITIONS):
        for kept, call in zip(times, (lambda: ours(views[0], views[1], y).backward(), by_hand)):
            kept.append(seconds(call))
    a, b = (statistics.median(kept) for kept in times)
    print(f"a step of OPERA: {1e3 * a:.1f} ms beside {1e3 * b:.1f} ms by hand ({b / a:.2f} times)")


if __name__ == "__main__":
    main()
