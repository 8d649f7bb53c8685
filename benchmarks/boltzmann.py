"""Contrastive divergence against scikit-learn's Boltzmann machine, and a game's step against a loop written by hand.

python benchmarks/boltzmann.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from sklearn.neural_network import BernoulliRBM
from torch import nn
from torch.nn.functional import softplus

from neurarium.data import load
from neurarium.learning import AdversarialGame
from neurarium.models import RBM, fit_rbm

REPEATS = 5


def medians(timed: dict[str, Callable[[], object]]) -> list[float]:
    """Processor seconds of each, median over interleaved repetitions."""
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for repeat in range(REPEATS + 1):
        for name, run in timed.items():
            start = time.process_time()
            run()
            if repeat:
                seconds[name].append(time.process_time() - start)
    found = [statistics.median(values) for values in seconds.values()]
    shown = ", ".join(f"{name} {1e3 * middle:.1f} ms" for name, middle in zip(timed, found, strict=True))
    print(f"{shown}; {' / '.join(timed)} = {found[0] / found[1]:.2f}")
    return found


def machines() -> None:
    """A pass over 2,000 images of MNIST, 784-256, batches of 100, persistent chains on both sides."""
    x = load("mnist-small").train.x[:2000].flatten(1).float() / 255
    peer = BernoulliRBM(256, learning_rate=0.01, batch_size=100, n_iter=1, random_state=0)
    batches = list(x.split(100))
    ours = RBM(784, 256, generator=torch.Generator().manual_seed(0))
    print("a pass over 2,000 images, 784-256:", end=" ")
    medians({
        "neurarium": lambda: fit_rbm(ours, batches, epochs=1, learning_rate=0.01, persistent=100),
        "scikit-learn": lambda: peer.fit(x.numpy()),
    })  # fmt: skip


def games() -> None:
    """Steps of both players of a fully connected game, batches of 100."""

    def players() -> tuple[nn.Module, nn.Module, list[torch.optim.Optimizer]]:
        torch.manual_seed(0)
        generator = nn.Sequential(nn.Linear(100, 400), nn.ReLU(), nn.Linear(400, 784), nn.Sigmoid())
        critic = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 1))
        return generator, critic, [torch.optim.Adam(m.parameters(), 2e-4) for m in (generator, critic)]

    x = torch.rand(100, 784)
    generator, critic, optimizers = players()
    game = AdversarialGame(generator, critic, features=100)
    other, judge, (first, second) = players()

    def by_hand() -> None:
        for _ in range(20):
            second.zero_grad()
            fake = other(2 * torch.rand(100, 100) - 1).detach()
            (softplus(-judge(x)).mean() + softplus(judge(fake)).mean()).backward()
            second.step()
            first.zero_grad()
            softplus(-judge(other(2 * torch.rand(100, 100) - 1))).mean().backward()
            first.step()

    print("20 steps of a game, 100-400-784 against 784-400-1:", end=" ")
    medians({"neurarium": lambda: [game.step(x, *optimizers) for _ in range(20)], "by hand": by_hand})


def main() -> None:
    torch.set_num_threads(1)
    machines()
    games()


if __name__ == "__main__":
    main()
