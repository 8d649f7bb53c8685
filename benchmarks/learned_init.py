"""Time and memory of a meta-step beside learn2learn's MAML and a loop over signals, in one run.

    python benchmarks/learned_init.py

learn2learn is timed where it is installed (`pip install learn2learn`). Its MAML is a clone of the network for each
signal, adapted one after the other, all graphs kept until the outer gradient; the same loop in plain PyTorch stands
beside it. Two settings are those of the study, digits of 28 x 28 points and a SIREN of width 64; the third is few-shot
regression, 10 points and a perceptron of width 40, where calls cost more than arithmetic. Seconds of CPU in one
thread, medians over rounds in which all take turns; memory is what is kept alive for the backward passes, at its
highest.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import mse_loss

from neurarium.layers import pixel_grid
from neurarium.models import SirenField
from neurarium.search import LearnedInitialization

ROUNDS, RATE = 5, 0.01


def loop(field: nn.Module, x: Tensor, y: Tensor, steps: int) -> None:
    """MAML in plain PyTorch, signal by signal."""
    start = dict(field.named_parameters())
    total = torch.zeros(())
    for inputs, targets in zip(x, y, strict=True):
        weights = dict(start)
        for _ in range(steps):
            loss = mse_loss(functional_call(field, weights, (inputs,)), targets)
            gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
            weights = {name: w - RATE * g for (name, w), g in zip(weights.items(), gradients, strict=True)}
        total = total + mse_loss(functional_call(field, weights, (inputs,)), targets) / len(x)
    total.backward()


def peer(field: nn.Module, x: Tensor, y: Tensor, steps: int) -> None:
    """learn2learn's MAML."""
    import learn2learn

    maml = learn2learn.algorithms.MAML(field, lr=RATE)
    total = torch.zeros(())
    for inputs, targets in zip(x, y, strict=True):
        learner = maml.clone()
        for _ in range(steps):
            learner.adapt(mse_loss(learner(inputs), targets))
        total = total + mse_loss(learner(inputs), targets) / len(x)
    total.backward()


def kept(step: Callable[[], object]) -> float:
    """MiB of tensors saved for backward passes and alive at once, at the highest."""
    alive: dict[int, int] = {}
    highest = 0

    class Saved:
        def __init__(self, t: Tensor) -> None:
            self.t, self.key = t, t.untyped_storage().data_ptr()
            counts[self.key] = counts.get(self.key, 0) + 1
            alive[self.key] = t.untyped_storage().nbytes()

        def __del__(self) -> None:
            counts[self.key] -= 1
            if not counts[self.key]:
                alive.pop(self.key, None)

    counts: dict[int, int] = {}

    def pack(t: Tensor) -> Saved:
        nonlocal highest
        saved = Saved(t)
        highest = max(highest, sum(alive.values()))
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.t):
        step()
    return highest / 2**20


def main() -> None:
    torch.set_num_threads(1)
    for signals, points, steps in ((8, 784, 2), (8, 784, 8), (20, 10, 5)):
        torch.manual_seed(0)
        few = nn.Sequential(nn.Linear(2, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 1))
        field = few if points == 10 else SirenField(2, 1, 64, 4, 30.0)
        x, y = pixel_grid(28, 28)[:points].expand(signals, -1, -1), torch.rand(signals, points, 1)
        start = LearnedInitialization(field, RATE, steps)
        ways: dict[str, Callable[[], object]] = {
            "ours": partial(start.assign_credit, x, y),
            "loop over signals": partial(loop, field, x, y, steps),
            "learn2learn": partial(peer, field, x, y, steps),
        }
        try:
            import learn2learn  # noqa: F401
        except ImportError:
            print("learn2learn is not installed and left out")
            del ways["learn2learn"]
        times: dict[str, list[float]] = {name: [] for name in ways}
        gradients = {}
        for turn in range(ROUNDS + 1):
            for name, way in ways.items():
                field.zero_grad()
                began = time.process_time()
                way()
                if turn:
                    times[name].append(time.process_time() - began)
                gradients[name] = next(field.parameters()).grad
        print(f"{signals} signals of {points} points, {steps} inner steps")
        ours = statistics.median(times["ours"])
        for name, way in ways.items():
            gap = float((gradients[name] - gradients["ours"]).abs().max() / gradients["ours"].abs().max())
            median = statistics.median(times[name])
            memory = kept(way)
            shown = f"{1e3 * median:7.1f} ms  {median / ours:5.2f} x  {memory:7.1f} MiB"
            print(f"  {name:18} {shown}  gradient off by {gap:.0e}")


if __name__ == "__main__":
    main()
