"""Episodes: a task drawn at random, a target and examples of it from other subjects."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neurarium.data._errors import DataError
from neurarium.data.volumes._image_tasks import IMAGE_TASKS, ImageTask, curve
from neurarium.data.volumes._subjects import Subjects


@dataclass(frozen=True)
class Episode:
    """A batch of targets, each with a task and examples of its own.

    Args:
        target_in: what is to be solved.
        target_out: the solution.
        context_in: inputs of the examples.
        context_out: outputs of the examples.
        masks: which members' outputs are masks.
        tasks: the name of each member's task.
    """

    target_in: Float[Tensor, "batch 1 height width"]
    target_out: Float[Tensor, "batch 1 height width"]
    context_in: Float[Tensor, "batch examples 1 height width"]
    context_out: Float[Tensor, "batch examples 1 height width"]
    masks: Bool[Tensor, " batch"]
    tasks: tuple[str, ...]


class EpisodeSampler:
    """Draws episodes without end.

    Each member of a batch has a task, a modality and subjects of its own; target and examples are different subjects.
    The modality is a random curve of brightness that is laid on all images of the member before its task is posed; with
    it, the structures that a mask may join and what each task draws, the tasks become a continuum.

    Args:
        subjects: who may be target or example.
        tasks: those of the room, or yours.
        held_out: names that are never drawn.
        structures: labels that masks may show; all by default. Those that are left out are held out.
        context: fewest and most examples; a batch has one number of them.
        batch: members.
        modalities: how far from the identity the curves of brightness go: 0 none, 1 any rise or fall.
        generator: source of the draws, on the CPU.

    Raises:
        DataError: fewer subjects than an episode needs; no task left; an unknown name; a structure that is none.
    """

    def __init__(
        self,
        subjects: Subjects,
        tasks: Mapping[str, ImageTask] = IMAGE_TASKS,
        held_out: Sequence[str] = (),
        structures: Sequence[int] | None = None,
        context: tuple[int, int] = (1, 8),
        batch: int = 8,
        modalities: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        for name in held_out:
            if name not in tasks:
                raise DataError(f"held_out names no task {name!r}; there are {', '.join(tasks)}")
        self.tasks = {name: task for name, task in tasks.items() if name not in held_out}
        if not self.tasks:
            raise DataError("held_out leaves no task")
        if len(subjects) < context[1] + 1:
            raise DataError(f"an episode needs {context[1] + 1} subjects, not {len(subjects)}")
        if not 1 <= context[0] <= context[1]:
            raise DataError(f"context must be at least 1 and rise, not {context}")
        if structures is not None:
            missing = set(structures) - set(subjects.structures)
            if missing:
                raise DataError(f"{missing.pop()} is no structure of every subject; those are {subjects.structures}")
            subjects = dataclasses.replace(subjects, structures=tuple(structures))
        self.subjects, self.context, self.batch = subjects, context, batch
        self.modalities, self.generator = modalities, generator

    def draw(self, task: str | None = None, examples: int | None = None) -> Episode:
        """One episode.

        Args:
            task: its name; drawn for each member by default.
            examples: how many; drawn by default.
        """
        names = list(self.tasks)
        low, high = self.context
        count = examples or int(torch.randint(low, high + 1, (), generator=self.generator))
        inputs, outputs, chosen = [], [], []
        for _ in range(self.batch):
            name = task or names[int(torch.randint(len(names), (), generator=self.generator))]
            rows = torch.randperm(len(self.subjects), generator=self.generator)[: count + 1]
            posed = self.tasks[name].draw(self._seen(self.subjects[rows]), self.generator)
            inputs.append(posed[0])
            outputs.append(posed[1])
            chosen.append(name)
        x, y = torch.stack(inputs)[:, :, None], torch.stack(outputs)[:, :, None]
        masks = torch.tensor([self.tasks[name].mask for name in chosen], device=x.device)
        return Episode(x[:, 0], y[:, 0], x[:, 1:], y[:, 1:], masks, tuple(chosen))

    def _seen(self, subjects: Subjects) -> Subjects:
        """The subjects in a random modality."""
        if self.modalities == 0:
            return subjects
        straight = torch.linspace(0, 1, 5)
        heights = torch.lerp(straight, torch.rand(5, generator=self.generator), self.modalities)
        ordered = heights.sort(descending=bool(torch.rand((), generator=self.generator) < 0.5 * self.modalities)).values
        return dataclasses.replace(subjects, images=curve(subjects.images, ordered))
