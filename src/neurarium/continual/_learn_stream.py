"""One loop over a stream of tasks, for any strategy and any learning rule."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.continual._accuracy_matrix import AccuracyMatrix
from neurarium.continual._strategy import Strategy
from neurarium.data import Batches, Split
from neurarium.learning import Backprop, LearningRule
from neurarium.training import accuracy, fit

Loss = Callable[[Tensor, Tensor], Tensor]


def learn_stream(
    strategy: Strategy,
    stream: Sequence[Split],
    *,
    loss: Loss = cross_entropy,
    rule: Callable[[nn.Module, Loss], LearningRule] = Backprop,
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None,
    epochs: int = 1,
    batch_size: int = 64,
    seed: int = 0,
    after_task: Callable[[int, list[float]], object] = lambda task, row: None,
) -> AccuracyMatrix:
    """Learn the tasks in turn, one pass after another, and test on all of them after each.

    Each task begins with a new optimizer, which the strategy is told of. A strategy that learns by ``observe`` alone
    (its model has nothing to train) gets its batches and no optimizer.

    Args:
        strategy: around the user's model.
        stream: the tasks.
        loss: ``loss(output, y) -> scalar``.
        rule: how gradients come about, ``rule(model, loss)``; built once, for the whole stream.
        optimizer: ``optimizer(parameters)``; SGD with rate 0.01 and momentum 0.9 by default.
        epochs: passes over each task.
        batch_size: examples per step.
        seed: of the order of examples; task ``t`` shuffles with ``seed * 1000 + t``.
        after_task: called as ``after_task(task, row)``, ``row`` the accuracies on all tasks of the stream.

    Returns:
        The accuracy matrix, forward transfer included.

    Raises:
        ValueError: the stream is empty.
    """
    if not stream:
        raise ValueError("stream is empty: give at least one task")
    make = optimizer or (lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9))
    learner = rule(strategy.model, loss) if any(p.requires_grad for p in strategy.model.parameters()) else None
    untrained: list[float] = []
    rows: list[list[float]] = []
    for task, split in enumerate(stream):
        strategy.begin_task(task)
        batches = Observed(Batches(split.train, batch_size, shuffle=True, seed=seed * 1000 + task), strategy)
        if learner is None:
            for _ in itertools.chain.from_iterable(itertools.repeat(batches, epochs)):
                pass
        else:
            untrained = untrained or accuracies(strategy, stream)
            steps = make([p for p in learner.parameters() if p.requires_grad])
            handle = strategy.attach(steps)
            fit(learner, batches, steps, epochs=epochs, penalties=[strategy.penalty])
            handle.remove()
        strategy.end_task(Batches(split.train, 500))
        rows.append(accuracies(strategy, stream))
        after_task(task, rows[-1])
    return AccuracyMatrix(rows, untrained)


class Observed:
    """Batches that a strategy observes once they have been trained on."""

    def __init__(self, batches: Iterable[Any], strategy: Strategy) -> None:
        self.batches, self.strategy = batches, strategy

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in self.batches:
            yield x, y
            self.strategy.observe(x, y)


def accuracies(strategy: Strategy, stream: Sequence[Split]) -> list[float]:
    """Accuracy of ``strategy.predict`` on the test examples of each task."""
    found = []
    for split in stream:
        right = sum(float(accuracy(strategy.predict(x), y)) * len(y) for x, y in Batches(split.test, 1000))
        found.append(right / len(split.test))
    return found
