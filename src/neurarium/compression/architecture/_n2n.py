"""N2N: a small student's architecture found by two policies that edit the teacher's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from neurarium.compression._compressor import Compressor
from neurarium.compression.distillation._student_training import Answers, ask_teacher, judge, train_students
from neurarium.models import describe, reset
from neurarium.search import ArchitectureSearch, LayerRemovalSearch, LayerShrinkSearch, Policy

Batches = Iterable[Any]
REDUCING = ("convolution", "norm", "pooling")
"""Kinds of layers whose removal changes the number of parameters."""


class N2N(Compressor):
    """Network-to-network compression by policy gradients (Ashok et al., 2017).

    First a policy removes layers of the teacher, then another shrinks what is left; every student is distilled for a
    short while and rewarded by its accuracy on held-out examples times its compression. The best student is trained
    anew at the end, on the teacher's logits and the labels. The paper's budget is 100 iterations of 5 students for each
    stage; the defaults here are a tenth of it.

    Args:
        removal_iterations: updates of the first policy; 0 leaves all layers.
        shrink_iterations: updates of the second policy; 0 leaves all sizes.
        students_per_iteration: trained together, on the same batches.
        epochs: of distillation per student.
        final_epochs: of the best student.
        search_examples: most examples that students of the search are trained on; the last one gets all.
        max_parameters: hard limit of the result.
        clip_accuracy: reward a student that is better than the teacher as if it were as good.
        holdout: share of the loader's examples that students are judged on, where ``compress`` is given no others.
        learning_rate: Adam's, for students.
        batch_size: examples per step of the students.
        removal_rate: Adam's, for the first policy; 0 draws at random.
        shrink_rate: Adam's, for the second policy.
        policies: trained before, for removal and shrinking; go on learning.
        generator: source of the policies' actions.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        removal_iterations: int = 10,
        shrink_iterations: int = 10,
        *,
        students_per_iteration: int = 5,
        epochs: int = 5,
        final_epochs: int = 40,
        search_examples: int = 2000,
        max_parameters: int | None = None,
        clip_accuracy: bool = False,
        holdout: float = 0.2,
        learning_rate: float = 3e-3,
        batch_size: int = 32,
        removal_rate: float = 0.003,
        shrink_rate: float = 0.01,
        policies: tuple[Policy | None, Policy | None] = (None, None),
        generator: torch.Generator | None = None,
    ) -> None:
        if min(removal_iterations, shrink_iterations) < 0 or removal_iterations + shrink_iterations < 1:
            raise ValueError("removal_iterations and shrink_iterations must not be negative, nor both 0")
        if not 0 < holdout < 1:
            raise ValueError(f"holdout must lie between 0 and 1, not {holdout}")
        self.iterations = (removal_iterations, shrink_iterations)
        self.students_per_iteration, self.epochs, self.final_epochs = students_per_iteration, epochs, final_epochs
        self.max_parameters, self.holdout, self.search_examples = max_parameters, holdout, search_examples
        self.clip_accuracy = clip_accuracy
        self.learning_rate, self.batch_size = learning_rate, batch_size
        self.rates = (removal_rate, shrink_rate)
        self.policies, self.generator = policies, generator
        self.searches: list[ArchitectureSearch] = []

    def compress(
        self,
        model: nn.Module,
        loader: Batches,
        validation: Batches | None = None,
    ) -> nn.Module:
        """Search, then train the best student. ``searches`` keeps both stages with their histories and policies.

        Raises:
            ValueError: the teacher is no better than chance; nothing can be removed or shrunk; the budget is below the
                smallest reachable size; no candidate was valid.
        """
        train, held = self._answers(model, loader, validation)
        chance = float(torch.bincount(held.y).max()) / len(held.y)
        if held.accuracy <= chance:
            raise ValueError(
                f"the teacher's accuracy {held.accuracy:.3f} is at chance ({chance:.3f}): A / A_teacher is meaningless"
            )
        best = self.search(model, train[: self.search_examples], held)
        student = reset(best)
        train_students(
            [student], train, epochs=self.final_epochs, learning_rate=self.learning_rate, batch_size=self.batch_size,
            labels=1.0, anneal=True,
        )  # fmt: skip
        return student.train(model.training)

    def search(self, teacher: nn.Module, train: Answers, held: Answers) -> nn.Module:
        """The best architecture of both stages."""
        size = sum(p.numel() for p in teacher.parameters())
        base, self.searches = teacher, []
        kinds = (LayerRemovalSearch, LayerShrinkSearch)
        for kind, iterations, rate, policy in zip(kinds, self.iterations, self.rates, self.policies):
            if iterations == 0:
                continue
            if kind is LayerRemovalSearch and self.iterations[1]:
                layers = describe(base, train.x[:2])
                if not any(layer.removable and layer.kind in REDUCING for layer in layers):
                    continue  # nothing to gain in this stage
            search = kind(
                base, train.x[:2], held.accuracy, policy=policy, teacher_parameters=size, lr=rate,
                max_parameters=self.max_parameters, clip_accuracy=self.clip_accuracy,
                students_per_update=self.students_per_iteration, generator=self.generator,
            )  # fmt: skip
            if isinstance(search, LayerShrinkSearch) and (self.max_parameters or size) < search.smallest():
                raise ValueError(
                    f"max_parameters is {self.max_parameters}, but the smallest student has {search.smallest():,}"
                )
            for _ in range(iterations):
                self.iterate(search, train, held)
            self.searches.append(search)
            base = self._best(base)
        return base

    def iterate(self, search: ArchitectureSearch, train: Answers, held: Answers) -> None:
        """One update: ask for students, train the new ones together, tell their accuracy."""
        asked = [search.ask() for _ in range(self.students_per_iteration)]
        new = [candidate.model for candidate in asked if candidate.model is not None and candidate.accuracy is None]
        train_students(
            new, train, epochs=self.epochs, learning_rate=self.learning_rate, batch_size=self.batch_size
        )  # fmt: skip
        for candidate in asked:
            known = candidate.accuracy is not None or candidate.model is None
            search.tell(candidate, None if known or candidate.model is None else judge(candidate.model, held))

    def _best(self, base: nn.Module) -> nn.Module:
        """The best candidate so far; stage 1 may end with the teacher itself if stage 2 follows."""
        found = []
        for search in self.searches:
            try:
                found.append(search.best())
            except ValueError:
                if search is self.searches[-1] and not (isinstance(search, LayerRemovalSearch) and self.iterations[1]):
                    raise
        best = max(found, key=lambda candidate: candidate.score, default=None)
        return base if best is None or best.model is None else best.model

    def _answers(
        self,
        model: nn.Module,
        loader: Iterable[Any],
        validation: Iterable[Any] | None,
    ) -> tuple[Answers, Answers]:
        train = ask_teacher(model, loader)
        if validation is not None:
            return train, ask_teacher(model, validation)
        order = torch.randperm(len(train.x)).to(train.x.device)
        train = Answers(train.x[order], train.y[order], train.logits[order])
        cut = int(self.holdout * len(train.x))
        if cut < 1:
            raise ValueError(f"holdout={self.holdout} of {len(train.x)} examples leaves none to judge students on")
        return train[cut:], train[:cut]
