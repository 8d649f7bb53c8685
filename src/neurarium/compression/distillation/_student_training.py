"""Distillation into several students at once: one pass over the data, the teacher's answers computed once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.training import accuracy, call, evaluation, join_rows, shuffled_rows, unpack


@dataclass(frozen=True)
class Answers:
    """What a teacher says of some examples.

    Args:
        x: inputs [examples, ...].
        y: classes [examples].
        logits: the teacher's [examples, classes].
    """

    x: Tensor
    y: Tensor
    logits: Tensor

    def __getitem__(self, rows: slice) -> Answers:
        return Answers(self.x[rows], self.y[rows], self.logits[rows])

    @property
    def accuracy(self) -> float:
        """The teacher's."""
        return float(accuracy(self.logits, self.y))


@torch.no_grad()
def ask_teacher(teacher: nn.Module, loader: Iterable[Any]) -> Answers:
    """One pass over a loader in evaluation mode; the modes are put back.

    Raises:
        ValueError: the loader gave no batches.
    """
    with evaluation(teacher):
        found = [(x, y, call(teacher, x)) for x, y in map(unpack, loader)]
    if not found:
        raise ValueError("the loader gave no batches")
    xs, ys, logits = zip(*found)
    return Answers(join_rows(xs), torch.cat(ys), torch.cat(logits))


def train_students(
    students: Sequence[nn.Module],
    answers: Answers,
    *,
    epochs: int = 5,
    learning_rate: float = 1e-3,
    weight_decay: float = 5e-4,
    batch_size: int = 64,
    labels: float = 0.0,
    anneal: bool = False,
) -> None:
    """Teach every student the teacher's logits: 1/N Σ ‖f_student(x) - f_teacher(x)‖², all on the same batches.

    Args:
        students: trained in place, by one Adam; they share no weights, so each learns as it would alone.
        answers: the teacher's.
        epochs: passes over the answers, in an order from torch's generator.
        learning_rate: Adam's.
        weight_decay: Adam's.
        batch_size: examples per step.
        labels: weight of the cross-entropy with the true classes, added to the distillation loss.
        anneal: let the rate fall to zero in a line.
    """
    parameters = [p for student in students for p in student.parameters()]
    if not parameters:
        return
    optimizer = torch.optim.Adam(parameters, learning_rate, weight_decay=weight_decay)
    steps = max(epochs * -(-len(answers.x) // batch_size), 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(1 - step / steps, 0) if anneal else 1.0)
    for student in students:
        student.train()
    for _ in range(epochs):
        for rows in shuffled_rows(len(answers.x), batch_size, answers.x.device):
            x, y, wanted = answers.x[rows], answers.y[rows], answers.logits[rows]
            optimizer.zero_grad()
            for student in students:
                output: Any = student(x)
                loss = (output - wanted).square().sum(-1).mean()
                if labels:
                    loss = loss + labels * cross_entropy(output, y)
                loss.backward()
            optimizer.step()
            schedule.step()


@torch.no_grad()
def judge(student: nn.Module, answers: Answers, batch_size: int = 1000) -> float:
    """A student's accuracy, in evaluation mode."""
    with evaluation(student):
        output = torch.cat([student(x) for x in answers.x.split(batch_size)])
    return float(accuracy(output, answers.y))
