"""Naive training and elastic weight consolidation beside Avalanche: same stream, network, seeds and steps, in one run.

Needs ``pip install avalanche-lib`` (with torchvision). Both sides start from the same weights and take as many steps on
the same tasks, with a new optimizer for each; each shuffles for itself. Avalanche's penalty is lambda sum F (theta -
theta*)^2, without the 1/2, and its F comes from gradients of whole batches on the true labels, which makes it smaller
by about the batch size: the lambda for springs as stiff as ours is strength * batch / 2. A bare PyTorch loop over the
same batches, without any library, is the floor that no library can be faster than.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from statistics import mean, stdev

import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import AvalancheDataset, _make_taskaware_classification_dataset
from avalanche.training import EWC as TheirEWC
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from torch import nn
from torch.utils.data import TensorDataset

from neurarium.continual import EWC, Finetune, Strategy, learn_stream
from neurarium.data import Split, load, permuted_stream

STREAMS, EPOCHS, BATCH, STRENGTH, SEEDS = (5, 10, 20), 2, 64, 3.0, (0, 1, 2)


def network(seed: int) -> nn.Sequential:
    """784-200-200-10."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10)
    )  # fmt: skip


def sgd(parameters: object) -> torch.optim.SGD:
    """The optimizer of both sides."""
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9)  # type: ignore[arg-type]


def score(model: nn.Module, stream: Sequence[Split]) -> float:
    """Mean accuracy over all tasks."""
    with torch.no_grad():
        return mean(float((model(s.test.x).argmax(1) == s.test.y).double().mean()) for s in stream)


def ours(kind: str, seed: int, stream: Sequence[Split]) -> tuple[float, float]:
    """Accuracy and seconds."""
    model = network(seed)
    strategy: Strategy = EWC(model, strength=STRENGTH) if kind == "ewc" else Finetune(model)
    untested = [dataclasses.replace(s, test=s.test[:10]) for s in stream]  # theirs does not test on the way, either
    start = time.perf_counter()
    learn_stream(strategy, untested, optimizer=sgd, epochs=EPOCHS, batch_size=BATCH, seed=seed)
    spent = time.perf_counter() - start
    return score(model, stream), spent


def theirs(kind: str, seed: int, stream: Sequence[Split]) -> tuple[float, float]:
    """Accuracy and seconds; no metrics and no evaluation on the way."""

    def dataset(x: torch.Tensor, y: torch.Tensor) -> AvalancheDataset:
        return _make_taskaware_classification_dataset(TensorDataset(x, y), targets=y.tolist(), task_labels=0)

    model = network(seed)
    parts = {
        "train": [dataset(s.train.x, s.train.y) for s in stream], "test": [dataset(s.test.x, s.test.y) for s in stream],
    }  # fmt: skip
    bench = benchmark_from_datasets(**parts)
    options = {"train_mb_size": BATCH, "train_epochs": EPOCHS, "evaluator": EvaluationPlugin()}
    optimizer = sgd(model.parameters())
    if kind == "ewc":
        strategy = TheirEWC(model, optimizer, nn.CrossEntropyLoss(), ewc_lambda=STRENGTH * BATCH / 2, **options)
    else:
        strategy = Naive(model=model, optimizer=optimizer, criterion=nn.CrossEntropyLoss(), **options)
    start = time.perf_counter()
    for experience in bench.train_stream:
        strategy.optimizer = sgd(model.parameters())  # it would carry its momentum from task to task, and forget more
        strategy.train(experience, num_workers=0)
    spent = time.perf_counter() - start
    return score(model, stream), spent


def bare(seed: int, stream: Sequence[Split]) -> float:
    """Seconds of forward pass, backward pass and step alone."""
    model = network(seed)
    loss = nn.CrossEntropyLoss()
    start = time.perf_counter()
    for split in stream:
        optimizer = sgd(model.parameters())
        for _ in range(EPOCHS):
            order = torch.randperm(len(split.train))
            for x, y in zip(split.train.x[order].split(BATCH), split.train.y[order].split(BATCH)):
                optimizer.zero_grad()
                loss(model(x), y).backward()
                optimizer.step()
    return time.perf_counter() - start


def main() -> None:
    """Accuracy of both with the difference over seeds, and how many times as long Avalanche takes."""
    torch.set_num_threads(1)
    data = load("mnist-small").scaled().flat()
    print(f"permuted tasks, {EPOCHS} epochs of 6,000 images each, seeds {SEEDS}")
    for tasks in STREAMS:
        for kind in ("naive", "ewc"):
            found: list[tuple[tuple[float, float], tuple[float, float], float]] = []
            for seed in SEEDS:
                split = Split(data.train.subset(6000, seed), data.validation, data.test, data.classes)
                stream = permuted_stream(split, tasks, seed=seed)
                found.append((ours(kind, seed, stream), theirs(kind, seed, stream), bare(seed, stream)))
            (own, own_seconds), (other, other_seconds) = (zip(*side) for side in list(zip(*found))[:2])
            lead = [a - b for a, b in zip(own, other)]
            print(f"{tasks} tasks, {kind}: accuracy ours {mean(own):.3f}, Avalanche {mean(other):.3f}", end=", ")
            print(f"difference {mean(lead):+.3f} +- {stdev(lead) / len(lead) ** 0.5:.3f} (standard error);", end=" ")
            floor = mean(seconds for *_, seconds in found)
            print(f"seconds {mean(own_seconds):.2f} and {mean(other_seconds):.2f}, bare loop {floor:.2f}", end=" ")
            print(f"(Avalanche / ours {mean(other_seconds) / mean(own_seconds):.2f}, target >= 3)")


if __name__ == "__main__":
    main()
