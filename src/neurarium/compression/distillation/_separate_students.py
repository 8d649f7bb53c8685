"""A class of students trained one by one: in processes of their own, each kept in a file as soon as it has learnt."""

from __future__ import annotations

import copy
import hashlib
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.compression.distillation._teacher_class import TeacherClass

Job = tuple[TeacherClass, nn.Module, Tensor, Tensor, int, Path | None]


class SeparateTeacherClass(TeacherClass):
    """`TeacherClass` whose students are trained apart, as they would be on machines of their own.

    Every student has a seed of its own, drawn from torch's generator, so the result does not depend on the number of
    workers. With a folder, students that have learnt are read from it when the same call is made again: the same seed,
    data, teacher and settings; anything else is trained anew.

    Args:
        students: n, as in `TeacherClass`.
        workers: processes; 1 trains here. More need a script that is guarded by ``if __name__ == "__main__"``.
        folder: where students are kept; None to keep none.
        options: of `TeacherClass`.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self, students: int = 4, *, workers: int = 1, folder: str | Path | None = None, **options: Any
    ) -> None:
        super().__init__(students, **options)
        if workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers}")
        self.workers, self.folder = workers, None if folder is None else Path(folder)

    def training(self, pupils: list[nn.Module], targets: list[Tensor], x: Tensor) -> Iterator[Tensor]:
        """Train all students; gives the mean squared error of each [n] once, at the end."""
        plain = copy.copy(self)
        plain.student = None  # type: ignore[assignment]  # a factory need not fit through a pipe
        seeds = torch.randint(2**31, (len(pupils),)).tolist()
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
        places = [self.folder and self.folder / f"student-{k}.pt" for k in range(len(pupils))]
        jobs = [(plain, *job) for job in zip(pupils, targets, [x] * len(pupils), seeds, places, strict=True)]
        if self.workers == 1:
            learnt = list(map(_learn, jobs))
        else:
            with ProcessPoolExecutor(self.workers, multiprocessing.get_context("spawn"), _one_thread) as pool:
                learnt = list(pool.map(_learn, jobs))
        for pupil, (state, _) in zip(pupils, learnt, strict=True):
            pupil.load_state_dict(state)
        yield torch.tensor([error for _, error in learnt])


def _learn(job: Job) -> tuple[dict[str, Tensor], float]:
    """One student's weights and error, from its file or trained now."""
    method, pupil, target, x, seed, place = job
    mark = _mark(method, pupil, target, x, seed)
    if place is not None and place.exists():
        kept = torch.load(place, weights_only=True, map_location=x.device)
        if kept["mark"] == mark:
            return kept["state"], kept["error"]
    error = float("nan")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for errors in TeacherClass.training(method, [pupil], [target], x):
            error = float(errors[0])
    if place is not None:
        part = place.with_suffix(".part")
        torch.save({"mark": mark, "state": pupil.state_dict(), "error": error}, part)
        part.replace(place)  # whole or not at all
    return pupil.state_dict(), error


def _mark(method: TeacherClass, pupil: nn.Module, target: Tensor, x: Tensor, seed: int) -> str:
    """A hash of all that a student's training is a function of."""
    settings = (method.mode, method.epochs, method.learning_rate, method.batch_size, seed, str(pupil))
    found = hashlib.sha256(repr(settings).encode())
    for tensor in (*pupil.state_dict().values(), target, x):
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _one_thread() -> None:
    torch.set_num_threads(1)
