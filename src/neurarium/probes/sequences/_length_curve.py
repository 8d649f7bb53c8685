"""Accuracy against the length of the words: does a sequence model go on beyond what it was trained on?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from neurarium.data import DataError, FormalTask, formal_tasks
from neurarium.data._errors import nearest
from neurarium.probes._result import ProbeResult
from neurarium.training import call, evaluation

SOLVED = 0.9


@dataclass(frozen=True)
class LengthCurve(ProbeResult):
    """Accuracy at each length.

    Args:
        lengths: of the words.
        accuracy: share of right symbols in the answers, per length.
        chance: the same of the best answer that does not look at the word.
        trained: longest length of training.
    """

    lengths: tuple[int, ...]
    accuracy: tuple[float, ...]
    chance: tuple[float, ...]
    trained: int

    @property
    def score(self) -> float:
        """Mean accuracy over the lengths beyond training; NaN where none was asked for."""
        beyond = [a for n, a in zip(self.lengths, self.accuracy, strict=True) if n > self.trained]
        return sum(beyond) / len(beyond) if beyond else float("nan")

    @property
    def within(self) -> float:
        """Mean accuracy over the lengths of training; NaN where none was asked for."""
        inside = [a for n, a in zip(self.lengths, self.accuracy, strict=True) if n <= self.trained]
        return sum(inside) / len(inside) if inside else float("nan")

    @property
    def solved(self) -> bool:
        """Whether the score is at least 90 %, as the paper counts it."""
        return self.score >= SOLVED

    def summary(self) -> str:
        """One sentence."""
        beyond = [c for n, c in zip(self.lengths, self.chance, strict=True) if n > self.trained]
        if not beyond:
            return f"accuracy {self.within:.3f} at lengths up to {self.trained}; none beyond was asked for"
        return (
            f"score {self.score:.3f} at lengths {self.trained + 1} to {max(self.lengths)} (chance "
            f"{sum(beyond) / len(beyond):.3f}): {'solved' if self.solved else 'not solved'}"
        )

    def plot(self, ax: Any) -> Any:
        """Accuracy and chance over length, the lengths of training shaded."""
        ax.axvspan(min(self.lengths), self.trained, alpha=0.12, label="trained")
        ax.plot(self.lengths, self.accuracy, marker="o", label="accuracy")
        ax.plot(self.lengths, self.chance, linestyle="--", label="chance")
        ax.set_xlabel("length")
        ax.set_ylim(0, 1.03)
        ax.legend()
        return ax


@torch.no_grad()
def length_curve(
    model: nn.Module,
    task: FormalTask | str,
    lengths: Sequence[int] = tuple(range(1, 101)),
    samples: int = 512,
    trained: int = 40,
    *,
    pause: int = 0,
    generator: torch.Generator | None = None,
) -> LengthCurve:
    """Ask a sequence model a formal task at many lengths.

    Args:
        model: maps [batch, steps, channels] to [batch, steps, answers] (see `FormalTask`).
        task: a task, or the name of one of `formal_tasks`.
        lengths: of the words; those that the task has not (too short, or even where only odd ones exist) are left out.
        samples: words per length.
        trained: longest length of training; the score is the mean beyond it.
        pause: blanks before those of the answer, in lengths of the word.
        generator: of the words, on the CPU; a fixed seed by default.

    Raises:
        ValueError: no such task, no length that it has, or outputs of another shape.
    """
    if isinstance(task, str):
        if task not in formal_tasks:
            raise DataError(f"unknown task {task!r}: {nearest(task, formal_tasks)}")
        task = formal_tasks[task]
    asked = sorted({task.length(n) for n in lengths if n >= task.shortest})
    if not asked or samples < 1:
        raise ValueError(f"lengths must hold one of at least {task.shortest}, and samples be at least 1")
    generator = generator or torch.Generator().manual_seed(0)
    like = next(model.parameters(), torch.zeros(()))
    found = []
    with evaluation(model):
        for length in asked:
            x, y, mask = task.sample(samples, length, generator, pause=pause)
            right = []
            for part in x.split(128):
                output = call(model, part.to(like.device, like.dtype))
                if output.dim() != 3 or output.shape[2] < task.answers or output.shape[1] != x.shape[1]:
                    wanted = f"[batch, {x.shape[1]}, {task.answers}]"
                    raise ValueError(f"the model must answer {wanted}, not {list(output.shape)}")
                right.append(output[:, -y.shape[1] :].argmax(-1).cpu())
            found.append(float((torch.cat(right) == y)[mask].double().mean()))
    chance = tuple(task.chance(n) for n in asked)
    return LengthCurve(tuple(asked), tuple(found), chance, trained)
