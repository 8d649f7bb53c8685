"""Who proposes the better students: N2N's policies, its variants, chance, or Optuna, all with the same number of them.

The study's teacher and budget (6 + 12 updates of 4 students, each distilled for one pass over 1,500 images). Every
proposer starts from the same prior (layers kept with probability 0.8, factors uniform), builds on the best student of
its own first stage, and is given the same rewards. Printed are means over the seeds, the range over the seeds, and what
a proposal costs beside the training of the student. Needs the ``bench`` extra (Optuna); about five minutes on one core.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable
from statistics import mean
from typing import Any

import optuna
import torch
from torch import nn

from neurarium.compression import N2N, Answers, ask_teacher, train_students
from neurarium.data import Batches
from neurarium.lab import Run
from neurarium.search import (
    ActorCriticRemovalSearch,
    ActorCriticShrinkSearch,
    ArchitectureSearch,
    Candidate,
    LayerRemovalSearch,
    LayerShrinkSearch,
    UnidirectionalRemovalPolicy,
)  # fmt: skip
from neurarium.studies.compression.n2n import STUDY, Settings, examples, method, trained

KEEP = 0.8
RATES = (0.01, 0.03)  # the study's


class OptunaSearch:
    """A stage of the search whose actions come from an Optuna sampler: `ask` and `tell` as before."""

    def __init__(self, stage: ArchitectureSearch, sampler: optuna.samplers.BaseSampler) -> None:
        self.stage = stage
        self.study = optuna.create_study(direction="maximize", sampler=sampler)
        self.open: dict[int, optuna.Trial] = {}

    def ask(self) -> Candidate:
        """The stage's candidate for the actions of a new trial."""
        trial = self.study.ask()
        if isinstance(self.stage, LayerRemovalSearch):
            drawn = [int(trial.suggest_float(layer.name, 0, 1) < KEEP) for layer in self.stage.layers]
        else:
            drawn = [trial.suggest_int(str(k), 0, 9) for k in range(len(self.stage.inputs))]
        self.stage.policy.sample = lambda *_: torch.tensor(drawn)  # type: ignore[method-assign]
        candidate = self.stage.ask()
        self.open[id(candidate)] = trial
        return candidate

    def tell(self, candidate: Candidate, accuracy: float | None = None) -> float:
        """The reward, to both."""
        reward = self.stage.tell(candidate, accuracy)
        self.study.tell(self.open.pop(id(candidate)), reward)
        return reward


class Timed:
    """Counts the seconds that proposals take."""

    def __init__(self, search: Any) -> None:
        self.search, self.seconds = search, 0.0

    def ask(self) -> Candidate:
        return self._timed(self.search.ask)

    def tell(self, candidate: Candidate, accuracy: float | None = None) -> float:
        return self._timed(self.search.tell, candidate, accuracy)

    def _timed(self, call: Callable[..., Any], *arguments: Any) -> Any:
        start = time.perf_counter()
        found = call(*arguments)
        self.seconds += time.perf_counter() - start
        return found


def proposer(name: str, stage: int, base: nn.Module, seed: int, **options: Any) -> tuple[ArchitectureSearch, Any]:
    """The stage, and what is asked in its place."""
    kinds = (ActorCriticRemovalSearch, ActorCriticShrinkSearch) if name == "actor-critic" else (
        LayerRemovalSearch, LayerShrinkSearch
    )  # fmt: skip
    learns = name in ("n2n", "unidirectional", "actor-critic")
    if name == "unidirectional" and stage == 0:
        options["policy"] = UnidirectionalRemovalPolicy()
    search = kinds[stage](base, lr=learns * RATES[stage], **options)
    samplers = {"Optuna, random": optuna.samplers.RandomSampler, "Optuna, TPE": optuna.samplers.TPESampler}
    return search, OptunaSearch(search, samplers[name](seed=seed)) if name in samplers else search


def worth(candidate: Candidate) -> float:
    """Its reward."""
    return -1.0 if candidate.reward is None else candidate.reward


def search(
    name: str, seed: int, settings: Settings, n2n: N2N, teacher: nn.Module, train: Answers, held: Answers
) -> dict:
    """Both stages; the best reward, the mean of the last third of the updates, and seconds per student."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    size, base, means, told, proposing = sum(p.numel() for p in teacher.parameters()), teacher, [], [], 0.0
    start = time.perf_counter()
    for stage in range(2):
        options = {
            "example": train.x[:2], "teacher_accuracy": held.accuracy, "teacher_parameters": size,
            "students_per_update": settings.students, "generator": generator,
        }  # fmt: skip
        found, asked = proposer(name, stage, base, seed, **options)
        timed = Timed(asked)
        for _ in range(n2n.iterations[stage]):
            n2n.iterate(timed, train, held)  # type: ignore[arg-type]
        proposing += timed.seconds
        means += found.rewards
        told += [candidate for candidate in found.history if candidate.model is not None]
        base = max(told, key=worth, default=Candidate(torch.empty(0))).model or base
    seconds, students = time.perf_counter() - start, settings.students * sum(n2n.iterations)
    late = means[-(-len(means) * 2 // 3) :]
    return {
        "best": max(map(worth, told)), "late": mean(late), "valid": len(told) / students,
        "proposal": 1e3 * proposing / students, "training": 1e3 * (seconds - proposing) / students,
    }  # fmt: skip


def together(students: list[nn.Module], train: Answers, settings: Settings) -> None:
    """Print what one pass over the data for all students saves."""
    rates: dict[str, Any] = {
        "learning_rate": settings.learning_rate, "batch_size": settings.batch_size, "epochs": 1,
    }  # fmt: skip
    start = time.perf_counter()
    train_students(copy.deepcopy(students), train, **rates)
    joint = time.perf_counter() - start
    start = time.perf_counter()
    for student in copy.deepcopy(students):
        train_students([student], train, **rates)
    alone = time.perf_counter() - start
    print(f"{len(students)} students: {joint:.2f} s together, {alone:.2f} s one after the other")


def main() -> None:
    """Print a line per proposer."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    quick = "--quick" in sys.argv
    settings = STUDY.settings("n2n", "smoke" if quick else "small")
    names = ("n2n", "unidirectional", "actor-critic", "random", "Optuna, random", "Optuna, TPE")
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for seed in range(1 if quick else 3):
        train, held, _ = examples(settings, seed, "cpu")
        teacher = trained(settings, seed, "cpu", deep=True)
        n2n = method(settings, Run(seed=seed), 0)
        answers, judged = (ask_teacher(teacher, Batches(part, 1000)) for part in (train, held))
        for name in names:
            rows[name].append(
                search(name, seed, settings, n2n, teacher, answers[: settings.search_images], judged)
            )  # fmt: skip
            print(f"  seed {seed}, {name}: " + ", ".join(f"{k} {v:.3g}" for k, v in rows[name][-1].items()), flush=True)
    print(f"{'':16}{'best reward':>22}{'mean of last third':>22}{'valid':>8}{'proposal':>12}{'training':>12}")
    for name, found in rows.items():
        spans = [[row[key] for row in found] for key in ("best", "late")]
        told = [f"{mean(span):.3f} ({min(span):.2f} to {max(span):.2f})" for span in spans]
        valid, proposal, training = (mean(row[key] for row in found) for key in ("valid", "proposal", "training"))
        print(f"{name:16}{told[0]:>22}{told[1]:>22}{valid:8.0%}{proposal:9.1f} ms{training:9.0f} ms")
    together([copy.deepcopy(teacher) for _ in range(settings.students)], answers[: settings.search_images], settings)


if __name__ == "__main__":
    main()
