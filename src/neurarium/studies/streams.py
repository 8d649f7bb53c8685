"""Strategies against forgetting side by side on one stream of tasks: what ``neurarium compare --stream`` builds.

Every arm is one strategy; ``joint`` is the reference that sees all tasks at once for as many steps. All see the same
tasks, examples and batches, start from the same weights, and train with the same optimizer. No strategy is told, when
tested, which task an example is from.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.continual import Strategy, learn_stream
from neurarium.data import Arrays, Batches, Split, permuted_stream, rotated_stream, split_stream
from neurarium.lab import Curve, Metrics, Paper, RequestError, Run, Scatter, Study
from neurarium.lab.registry import Entry
from neurarium.lab.runner import Job
from neurarium.lab.study import closest
from neurarium.learning import Backprop
from neurarium.recipes import STREAM_RECIPES, StreamProblem, StreamRecipe, refused
from neurarium.studies.brought import Brought, chosen, code_of, factory, identified, load_scaled
from neurarium.training import evaluate, fit

STREAMS = ("split", "permuted", "rotated")
RECIPES_FILE = Path(__file__).resolve().parents[1] / "recipes" / "streams.py"


@dataclass(frozen=True)
class Settings(Brought):
    """One arm.

    Args:
        stream: "split" (some classes per task, one head for all), "permuted" or "rotated" inputs.
        tasks: number of tasks; for "split" it must divide the number of classes.
        strategy: slug of the strategy, or "joint".
        strength: of strategies that have one; 0 for each one's default.
        epochs: passes over each task.
        learning_rate: of SGD with momentum 0.9.
    """

    stream: str = "split"
    tasks: int = 5
    strategy: str = "finetune"
    strength: float = 0.0
    epochs: int = 2
    learning_rate: float = 0.01


def trial(settings: Settings, run: Run) -> Metrics:
    """Learn the stream; accuracy, forgetting and transfer, seconds, and what is kept beside the network."""
    stream = [task.to(run.device) for task in make_stream(settings, run.seed)]
    torch.manual_seed(run.seed)
    model = factory(settings.model, stream[0])().to(run.device)
    start = time.perf_counter()
    if settings.strategy == "joint":
        return {"accuracy": joint(settings, run, stream, model), "training_seconds": time.perf_counter() - start}
    recipe = STREAM_RECIPES[settings.strategy]
    strategy = recipe.make(StreamProblem(model, settings.model != "mlp", settings.strength)).to(run.device)

    def record(task: int, row: list[float]) -> None:
        seen = row[: task + 1]
        run.record(tasks=task + 1, mean_accuracy=sum(seen) / len(seen))
        for number, score in enumerate(seen, start=1):
            run.record(after=task + 1, task=f"task {number}", accuracy=score)

    matrix = learn_stream(
        strategy, stream, optimizer=lambda parameters: sgd(settings, parameters),
        epochs=recipe.passes or settings.epochs, batch_size=settings.batch_size, seed=run.seed, after_task=record,
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


def sgd(settings: Settings, parameters: Iterable[nn.Parameter]) -> torch.optim.SGD:
    """The optimizer of every arm."""
    return torch.optim.SGD(parameters, lr=settings.learning_rate, momentum=0.9, fused=True)


def extra_bytes(strategy: Strategy, model: nn.Module) -> float:
    """Bytes that the strategy keeps beside the network."""
    own = {parameter.data_ptr() for parameter in model.parameters()}
    state = strategy.state_dict(keep_vars=True).values()
    kept = sum(t.nbytes for t in state if isinstance(t, Tensor) and t.data_ptr() not in own)
    store = getattr(strategy, "store", None)  # a memory's items are in a store of their own
    return float(kept + (0 if store is None else store.vectors.nbytes + store.labels.nbytes))


def make_stream(settings: Settings, seed: int) -> list[Split]:
    """The tasks, drawn by the seed.

    Raises:
        RequestError: data without classes, or a number of tasks that does not fit.
    """
    images, _ = load_scaled(settings, flat=False)
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


def job(base: Settings, names: Sequence[str]) -> tuple[Job, dict[str, str]]:
    """The study that compares strategies, and who was left out and why.

    Raises:
        RequestError: a strategy does not exist or, asked for by name, does not take this model; or none is left.
    """
    closest(base.stream, STREAMS, "stream")
    wanted, everything = chosen(names, [*STREAM_RECIPES, "joint"], "strategy")
    base = identified(base)
    build = factory(base.model, make_stream(base, seed=0)[0])
    left_out: dict[str, str] = {}
    for slug in wanted:
        if slug == "joint":
            continue
        brought = StreamProblem(build(), base.model != "mlp", base.strength)
        reason = refused(partial(begin, STREAM_RECIPES[slug], brought))
        if reason and not everything:
            raise RequestError(f"strategy {slug} does not take this model: {reason}")
        if reason:
            left_out[slug] = reason
    fitting = [slug for slug in wanted if slug not in left_out]
    if everything and fitting == ["joint"]:
        raise RequestError(f"no strategy takes this model: {next(iter(left_out.values()))}")
    arms = {slug: dataclasses.replace(base, strategy=slug, code=code(base.model, slug)) for slug in fitting}
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
    return Job(Entry("compare", "", __name__, Path(__file__).resolve()), definition), left_out


def begin(recipe: StreamRecipe, brought: StreamProblem) -> None:
    """Make the strategy and begin a task, which is where it refuses a network.

    Raises:
        ValueError: it does.
    """
    strategy = recipe.make(brought)
    if strategy.model is brought.model and not any(p.requires_grad for p in strategy.parameters()):
        raise ValueError("the network has no parameter to train")
    strategy.begin_task(0)


def code(model: str, slug: str) -> str:
    """Fingerprint of the user's network and of what the strategy is."""
    return code_of(model, *([] if slug == "joint" else [(RECIPES_FILE, STREAM_RECIPES[slug].make.__name__)]))
