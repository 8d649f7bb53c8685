"""Elastic weight consolidation with five old tasks: penalty, step and Fisher estimate, beside the usual way.

The usual way is what continual-learning plugins do: a loop over old tasks and parameters that sums
``(importance * (p - saved) ** 2).sum()``, and the Fisher information from one backward pass per example.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.continual import EWC
from neurarium.data import Arrays, Batches

TASKS = 5


class LoopedEWC:
    """The usual way."""

    def __init__(self, model: nn.Module, strength: float) -> None:
        self.model, self.strength = model, strength
        self.tasks: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []

    def penalty(self) -> Tensor:
        """A loop over tasks and parameters."""
        total = torch.zeros(())
        for importance, saved in self.tasks:
            for name, p in self.model.named_parameters():
                total = total + (importance[name] * (p - saved[name]).pow(2)).sum()
        return self.strength / 2 * total

    def end_task(self, x: Tensor, y: Tensor) -> None:
        """A backward pass per example."""
        importance = {name: torch.zeros_like(p) for name, p in self.model.named_parameters()}
        for i in range(len(x)):
            self.model.zero_grad()
            cross_entropy(self.model(x[i : i + 1]), y[i : i + 1]).backward()
            for name, p in self.model.named_parameters():
                if p.grad is not None:
                    importance[name] += p.grad.detach().square() / len(x)
        saved = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.tasks.append((importance, saved))


def timed(works: dict[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Median seconds of each, interleaved."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repetitions + 3):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if turn >= 3:
                times[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in times.items()}


def main(repetitions: int = 200) -> None:
    """Print the ratios the usual way / ours, and check that both give the same penalty and gradient."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10))
    x, y = torch.randn(400, 784), torch.randint(10, (400,))
    ours, looped = EWC(model, strength=100.0, fisher="empirical"), LoopedEWC(model, 100.0)
    for _ in range(TASKS):
        with torch.no_grad():
            for p in model.parameters():
                p += 0.01 * torch.randn_like(p)
        ours.end_task(Batches(Arrays(x, y), 100))
        looped.end_task(x, y)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.01 * torch.randn_like(p)
    values = [float(penalty().detach()) for penalty in (ours.penalty, looped.penalty)]
    print(f"penalty: ours {values[0]:.6f}, loop {values[1]:.6f}")
    optimizer = torch.optim.SGD(model.parameters(), 0.0)

    def penalty_alone(penalty: Callable[[], Tensor]) -> Callable[[], None]:
        def work() -> None:
            optimizer.zero_grad()
            penalty().backward()

        return work

    def step(penalty: Callable[[], Tensor] | None, batch: int = 64) -> Callable[[], None]:
        def work() -> None:
            optimizer.zero_grad()
            loss = cross_entropy(model(x[:batch]), y[:batch])
            (loss if penalty is None else loss + penalty()).backward()
            optimizer.step()

        return work

    found = timed(
        {
            "penalty ours": penalty_alone(ours.penalty),
            "penalty loop": penalty_alone(looped.penalty),
            "step plain": step(None),
            "step ours": step(ours.penalty),
            "step loop": step(looped.penalty),
            "256 plain": step(None, 256),
            "256 ours": step(ours.penalty, 256),
        },
        repetitions,
    )
    for name, seconds in found.items():
        print(f"{name:14s} {1e3 * seconds:7.3f} ms")
    print(f"penalty: loop / ours {found['penalty loop'] / found['penalty ours']:.1f} (target >= 3)")
    print(f"whole step: loop / ours {found['step loop'] / found['step ours']:.2f}")
    print(f"our penalty adds to a plain step of 64 examples: {found['step ours'] / found['step plain'] - 1:.0%}")
    print(f"                             of 256 examples: {found['256 ours'] / found['256 plain'] - 1:.0%}")
    fisher = timed(
        {
            "ours": lambda: EWC(model, fisher="empirical").end_task(Batches(Arrays(x, y), 400)),
            "exact": lambda: EWC(model, fisher="exact").end_task(Batches(Arrays(x, y), 400)),
            "loop": lambda: LoopedEWC(model, 1.0).end_task(x, y),
        },
        5,
    )
    print(f"Fisher of 400 examples: loop / ours {fisher['loop'] / fisher['ours']:.0f}")
    print(f"  ours over all ten classes (exact): loop of one class / ours {fisher['loop'] / fisher['exact']:.0f}")


if __name__ == "__main__":
    main()
