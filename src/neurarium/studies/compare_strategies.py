"""Continual-learning strategies side by side on one stream of tasks: what ``neurarium compare --stream`` builds.

Every arm is one strategy; ``joint`` is the reference that sees all tasks at once for as many steps. All see the same
tasks, examples and batches, start from the same weights, and train with the same optimizer. A strategy that has a
strength uses its own default, or the one the user gives; springs act as proximal steps, which no strength makes
unstable. Strategies that learn on the features of a frozen encoder get what enters the last layer of the user's
network; the built-in network knows nothing yet, so with it they get the inputs themselves.
"""

from __future__ import annotations

import dataclasses
import inspect
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import neurarium.continual
from neurarium.continual import Strategy, VisualMemory, learn_stream
from neurarium.data import Arrays, Batches, Split, permuted_stream, rotated_stream, split_stream
from neurarium.lab import Curve, Metrics, Paper, RequestError, Run, Scatter, Study
from neurarium.lab.registry import Entry
from neurarium.lab.study import closest
from neurarium.learning import Backprop
from neurarium.studies.compare_rules import build_model, identified, kebab_case, load_scaled, members, sources_of
from neurarium.training import evaluate, fit

STREAMS = ("split", "permuted", "rotated")


@dataclass(frozen=True)
class Settings:
    """One arm.

    Args:
        data: a data set's name, or the path of the user's file; must have classes.
        stream: "split" (some classes per task, one head for all), "permuted" or "rotated" inputs.
        tasks: number of tasks; for "split" it must divide the number of classes.
        target: target column of a table.
        model: "mlp", or "package.module:name" of a function or class that gives a module.
        strategy: slug of the strategy, or "joint".
        strength: of strategies that have one; 0 for each one's default.
        epochs: passes over each task.
        batch_size: examples per step.
        learning_rate: of SGD with momentum 0.9.
        examples: train on so many only, and test on at most as many; 0 for all.
        digest: SHA-256 of the data file, so that a changed file is a new trial.
    """

    data: str
    stream: str = "split"
    tasks: int = 5
    target: str = ""
    model: str = "mlp"
    strategy: str = "finetune"
    strength: float = 0.0
    epochs: int = 2
    batch_size: int = 64
    learning_rate: float = 0.01
    examples: int = 0
    digest: str = ""


def trial(settings: Settings, run: Run) -> Metrics:
    """Learn the stream; accuracy, forgetting and transfer, seconds, and what is kept beside the network."""
    stream = [task.to(run.device) for task in make_stream(settings, run.seed)]
    torch.manual_seed(run.seed)
    model = build_model(settings.model, stream[0]).to(run.device)
    start = time.perf_counter()
    if settings.strategy == "joint":
        return {"accuracy": joint(settings, run, stream, model), "training_seconds": time.perf_counter() - start}
    strategy = build_strategy(settings, model).to(run.device)

    def record(task: int, row: list[float]) -> None:
        seen = row[: task + 1]
        run.record(tasks=task + 1, mean_accuracy=sum(seen) / len(seen))
        for number, score in enumerate(seen, start=1):
            run.record(after=task + 1, task=f"task {number}", accuracy=score)

    # An example that is remembered twice votes twice and says nothing new.
    epochs = 1 if isinstance(strategy, VisualMemory) else settings.epochs
    matrix = learn_stream(
        strategy, stream, optimizer=lambda parameters: sgd(settings, parameters), epochs=epochs,
        batch_size=settings.batch_size, seed=run.seed, after_task=record,
    )  # fmt: skip
    found = {
        "accuracy": matrix.average_accuracy,
        "forgetting": matrix.forgetting,
        "learned_accuracy": matrix.learned_accuracy,
        "backward_transfer": matrix.backward_transfer,
        "training_seconds": time.perf_counter() - start,
        "extra_bytes": extra_bytes(strategy, model),
    }
    return found | ({"forward_transfer": matrix.forward_transfer} if matrix.untrained else {})


def joint(settings: Settings, run: Run, stream: Sequence[Split], model: nn.Module) -> float:
    """Mean accuracy on the tasks of a network that saw all of them at once."""
    together = Arrays(torch.cat([s.train.x for s in stream]), torch.cat([s.train.y for s in stream]))
    loader = Batches(together, settings.batch_size, shuffle=True, seed=run.seed)
    rule = Backprop(model, cross_entropy)
    for _ in run.track(range(settings.epochs), "epochs"):
        fit(rule, loader, sgd(settings, model.parameters()))
    return sum(evaluate(model, Batches(s.test, 1000)) for s in stream) / len(stream)


def sgd(settings: Settings, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """What every strategy trains with."""
    return torch.optim.SGD(parameters, settings.learning_rate, momentum=0.9)


def extra_bytes(strategy: Strategy, model: nn.Module) -> int:
    """Bytes of everything that the strategy keeps beside the network."""
    kept = sum(tensor.nbytes for tensor in strategy.state_dict().values() if isinstance(tensor, Tensor))
    if {id(p) for p in strategy.parameters()} & {id(p) for p in model.parameters()}:
        kept -= sum(p.nbytes for p in model.parameters())
    if isinstance(strategy, VisualMemory):  # its items are in a store of their own
        kept += strategy.store.vectors.nbytes + strategy.store.labels.nbytes
    return kept


def strategies() -> dict[str, type[Strategy]]:
    """Every strategy of the room by slug."""
    return {kebab_case(kind.__name__): kind for kind in members(neurarium.continual, Strategy)}


def build_strategy(settings: Settings, model: nn.Module) -> Strategy:
    """The strategy around the model (or its features), with the strength asked for where it takes one."""
    kind: Any = strategies()[settings.strategy]
    taken = inspect.signature(kind).parameters
    options: dict[str, Any] = {"implicit": True} if "implicit" in taken else {}
    if "balance" in taken:
        options["balance"] = 0.03  # steps that suit classes of any size
    if settings.strength and "strength" in taken:
        options["strength"] = settings.strength
    if "encoder" in taken:
        return kind(None if settings.model == "mlp" else Features(model), **options)
    return kind(model, **options)


class Features(nn.Module):
    """What enters the last layer of a network."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.last = [name for name, module in model.named_modules() if module._parameters][-1]

    def forward(self, x: Tensor) -> Tensor:
        """[batch, features]."""
        found: list[Tensor] = []
        handle = self.model.get_submodule(self.last).register_forward_pre_hook(lambda _, given: found.append(given[0]))
        try:
            self.model(x)
        finally:
            handle.remove()
        return found[-1]


def make_stream(settings: Settings, seed: int) -> list[Split]:
    """The tasks, drawn by the seed.

    Raises:
        RequestError: data without classes, or a number of tasks that does not fit.
    """
    images = load_scaled(settings, flat=False)
    if not images.classes:
        raise RequestError(f"--stream needs data with classes; {images.name} has numbers as targets")
    if settings.stream == "split":
        if len(images.classes) % settings.tasks:
            raise RequestError(
                f"--tasks must divide the number of classes, {len(images.classes)}, unlike {settings.tasks}"
            )
        stream = split_stream(images, len(images.classes) // settings.tasks, order_seed=seed)
    elif settings.stream == "permuted":
        stream = permuted_stream(images, settings.tasks, seed=seed)
    else:
        stream = rotated_stream(images, [90.0 * t / max(1, settings.tasks - 1) for t in range(settings.tasks)])
    return [task.flat() for task in stream] if settings.model == "mlp" else stream


def study(base: Settings, names: Sequence[str]) -> tuple[Entry, Study, list[Path], dict[str, str]]:
    """The study that compares strategies, its entry, the further files it depends on, and who was left out and why.

    Raises:
        RequestError: a strategy does not exist or, asked for by name, does not take this model.
    """
    known = strategies()
    closest(base.stream, STREAMS, "stream")
    if not names:
        raise RequestError(f"name at least one strategy, or 'all': {', '.join(known)}, joint")
    everything = list(names) == ["all"]
    chosen = [*known, "joint"] if everything else [closest(name, [*known, "joint"], "strategy") for name in names]
    base = identified(base)
    stream = make_stream(base, seed=0)
    left_out: dict[str, str] = {}
    for slug in chosen:
        if slug == "joint":
            continue
        try:
            tried = build_strategy(dataclasses.replace(base, strategy=slug), build_model(base.model, stream[0]))
            tried.begin_task(0)
        except (ValueError, TypeError) as error:
            left_out[slug] = str(error).strip().splitlines()[0]
            if not everything:
                raise RequestError(f"strategy {slug} does not take this model: {left_out[slug]}") from error
    arms = {slug: dataclasses.replace(base, strategy=slug) for slug in chosen if slug not in left_out}
    definition = Study(
        paper=Paper(f"Continual learning on {Path(base.data).name} ({base.stream}, {base.tasks} tasks)", "", 2026),
        trial=trial,
        arms=arms,
        figures=[
            Curve(title="Mean accuracy over the tasks seen so far", x="tasks", y="mean_accuracy"),
            Curve(title="Accuracy on each task while later ones are learned", x="after", y="accuracy", series="task"),
            Scatter(title="Final accuracy against seconds", x="training_seconds", y="accuracy"),
        ],
    )
    sources = sources_of(base.model, [known[slug] for slug in arms if slug != "joint"])
    entry = Entry("compare", "", "neurarium.studies.compare_strategies", Path(__file__).resolve())
    return entry, definition, sources, left_out
