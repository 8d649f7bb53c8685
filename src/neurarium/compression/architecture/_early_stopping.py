"""N2N that gives up on hopeless students: those near chance after two epochs are not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from neurarium.compression.architecture._n2n import N2N
from neurarium.compression.distillation._student_training import Answers, judge
from neurarium.search import ArchitectureSearch
from neurarium.training import shuffled_rows


def train_hopeful_students(
    students: Sequence[nn.Module],
    answers: Answers,
    held: Answers,
    *,
    epochs: int = 5,
    look: int = 2,
    least: float = 0.2,
    learning_rate: float = 1e-3,
    weight_decay: float = 5e-4,
    batch_size: int = 64,
) -> list[float | None]:
    """As `train_students`, but students below an accuracy after some epochs stop there.

    The others see the same batches as without it and, unless they draw random numbers themselves, end with the same
    weights.

    Args:
        students: trained in place, by one Adam.
        answers: the teacher's.
        held: what students are judged on.
        epochs: passes over the answers.
        look: the epoch after which hopeless students stop.
        least: the accuracy below which a student is hopeless.
        learning_rate: Adam's.
        weight_decay: Adam's.
        batch_size: examples per step.

    Returns:
        The accuracy of each student that was stopped; None for the others.

    Raises:
        ValueError: ``look`` is below 1.
    """
    if look < 1:
        raise ValueError(f"look must be at least 1, not {look}")
    stopped: list[float | None] = [None] * len(students)
    parameters = [p for student in students for p in student.parameters()]
    if not parameters:
        return stopped
    optimizer = torch.optim.Adam(parameters, learning_rate, weight_decay=weight_decay)
    for epoch in range(epochs):
        if epoch == look:
            found = [judge(student, held) for student in students]
            stopped = [accuracy if accuracy < least else None for accuracy in found]
        hopeful = [student for student, accuracy in zip(students, stopped) if accuracy is None]
        if not hopeful:
            break
        for student in hopeful:
            student.train()
        for rows in shuffled_rows(len(answers.x), batch_size, answers.x.device):
            x, wanted = answers.x[rows], answers.logits[rows]
            optimizer.zero_grad()  # to None: Adam passes over the students that have stopped
            for student in hopeful:
                (student(x) - wanted).square().sum(-1).mean().backward()
            optimizer.step()
    return stopped


class EarlyStoppingN2N(N2N):
    """`N2N` that stops students whose accuracy is below ``least`` after ``look`` epochs, and rewards them as they are.

    Takes the arguments of `N2N` as well.

    Args:
        look: the epoch after which students are judged for the first time.
        least: the accuracy that they must have reached; the authors' 0.2 is twice the chance of ten classes.
        options: of `N2N`.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self, removal_iterations: int = 10, shrink_iterations: int = 10, *, look: int = 2, least: float = 0.2,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(removal_iterations, shrink_iterations, **options)
        if not 1 <= look < self.epochs:
            raise ValueError(f"look must be at least 1 and below epochs ({self.epochs}), not {look}")
        if not 0 < least < 1:
            raise ValueError(f"least must lie between 0 and 1, not {least}")
        self.look, self.least = look, least
        self.stopped = 0

    def iterate(self, search: ArchitectureSearch, train: Answers, held: Answers) -> None:
        """One update; ``stopped`` counts the students that were given up."""
        asked = [search.ask() for _ in range(self.students_per_iteration)]
        new = [candidate for candidate in asked if candidate.model is not None and candidate.accuracy is None]
        models = [candidate.model for candidate in new if candidate.model is not None]
        found = train_hopeful_students(
            models, train, held, epochs=self.epochs, look=self.look, least=self.least,
            learning_rate=self.learning_rate, batch_size=self.batch_size,
        )  # fmt: skip
        self.stopped += sum(accuracy is not None for accuracy in found)
        reached = [judge(model, held) if accuracy is None else accuracy for model, accuracy in zip(models, found)]
        told = {id(candidate): accuracy for candidate, accuracy in zip(new, reached)}
        for candidate in asked:
            search.tell(candidate, told.get(id(candidate)))
