"""What the engine costs: a trial through `run_study` in a process of its own, against the same loop written by hand."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.lab import Paper, Run, Study
from neurarium.lab.executors import Processes
from neurarium.lab.registry import Entry
from neurarium.lab.runner import Request, run_study
from neurarium.lab.store import Store


@dataclass(frozen=True)
class Settings:
    """Steps of training; a step is about 2 ms."""

    steps: int = 6000


def train(steps: int, each=range) -> float:  # type: ignore[no-untyped-def]
    """A plain training loop on random digits."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 10))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    x, y = torch.randn(128, 784), torch.randint(10, (128,))
    for _ in each(steps):
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def trial(settings: Settings, run: Run) -> dict[str, float]:
    """The same loop with progress and a curve."""

    def each(steps: int):  # type: ignore[no-untyped-def]
        for step in run.track(range(steps), "steps"):
            if step % 100 == 0:
                run.record(step=step)
            yield step

    return {"loss": train(settings.steps, each)}


STUDY = Study(Paper("Overhead", "", 2026), trial, {"only": Settings()})


def main(repetitions: int = 3) -> None:
    """Print the ratio engine / by hand (the target is at most 1.03), and start-up times."""
    torch.set_num_threads(1)
    here = Path(__file__).resolve()
    entry = Entry("overhead", "", str(here), here)
    ratios = []
    run_study(entry, STUDY, Request(seeds=1, overrides={"steps": "10"}), executor=Processes(1), store=_store())
    for _ in range(repetitions):
        start = time.perf_counter()
        train(Settings().steps)
        by_hand = time.perf_counter() - start
        start = time.perf_counter()
        run_study(entry, STUDY, Request(seeds=1), executor=Processes(1), store=_store())
        engine = time.perf_counter() - start
        ratios.append(engine / by_hand)
        print(f"by hand {by_hand:.2f} s, through the engine {engine:.2f} s, ratio {ratios[-1]:.3f}")
    print(f"median ratio {median(ratios):.3f} (target <= 1.03)")
    for words in (["-c", "import neurarium"], ["-m", "neurarium", "list"], ["-c", "pass"]):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - start)
        print(f"python {' '.join(words):24s} {median(times):.3f} s")


def _store() -> Store:
    return Store(Path(tempfile.mkdtemp()) / "store.sqlite")


if __name__ == "__main__":
    main()
