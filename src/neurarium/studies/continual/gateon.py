"""Gates per context, and weights less free to change the more earlier contexts need them, keep a long stream of tasks.

The paper (Barry et al., 2023) multiplies every hidden unit by a gate that depends on the context alone, and lets the
availability of units or weights, which scales their changes, fall while they matter and leak back while they idle. Up
to 100 MNIST tasks are learned in turn with little forgetting; gates and availability together do better than either;
the leak keeps long streams from filling the network up; contexts are found from the loss, without task labels.

Small: ten permutations of 4,000 images, a 784-400-400-10 network, two epochs of batches of 100 (80 steps a task), Adam
at 5e-3. Every arm but none has the same layers (norm with statistics per context, ReLU, unit length) and is told the
context at test time, as in the paper; ``sgd`` has neither gates nor availability. ``inferred`` is told nothing, how
long a task is included: it looks at the loss on a batch before it learns it, and trusts a context once it has seen 15
batches of it, whatever the tasks' length (of 15 and 30, on seed 100). ``uneven`` gives it tasks of 40, 80 or 120 steps
in an order that is drawn. ``narrow`` arms are 64 units wide and see 15 tasks. ``rotated`` turns the images by ten
random whole angles; forward transfer is what 20 steps on a new task reach beyond what they reach from scratch.
Tuned on seed 100, outside the seeds that are run: rate 0.01 of (0.01, 0.03, 0.06) with leak 0.5 of (0.1, 0.3, 0.5) for
neurons, 0.06 and 0.3 for parameters, the strength of ``ewc``'s springs 1e5 of (1e3, 1e4, 1e5, 3e5, 1e6). Paper: 100
tasks of 500 steps, batches of 1,000, width 2,000, trust after 460 batches with a memory of 50, the authors' constants.
Its streams of texts for a pre-trained BERT are not tested.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.continual import EWC, AccuracyMatrix, ContextDetector, GateON, Strategy
from neurarium.data import Batches, Split, load, permuted_stream, rotated_stream
from neurarium.lab import Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Study, all_of, difference, value
from neurarium.learning import Backprop


@dataclass(frozen=True)
class Settings:
    """What an arm does and with which numbers."""

    stream: Literal["permuted", "rotated"] = "permuted"
    gates: bool = True
    availability: bool = True
    level: Literal["neuron", "parameter"] = "neuron"
    rate: float = 0.01  # of availability, per step
    leak: float = 0.5
    detect: bool = False  # find contexts from the loss
    trust: int = 15  # batches after which a context is trusted
    remembered: int = 20  # losses of a context that its next ones are held against
    uneven: bool = False  # tasks of one, two or three epochs
    strength: float = 0.0  # of EWC; above 0 it takes the place of gates and availability
    data: str = "mnist-small"
    images: int = 4_000
    test_images: int = 1_000
    tasks: int = 10
    epochs: int = 2
    width: int = 400
    batch_size: int = 100
    lr: float = 5e-3
    contexts: int = 128  # room for them
    first_steps: int = 20  # after which forward transfer is measured


def trial(settings: Settings, run: Run) -> Metrics:
    """The stream, learned by one arm; accuracy on every task so far after every task."""
    stream = tasks(settings, run)
    strategy = build(settings, run)
    epochs = lengths(settings, run)
    optimizer = torch.optim.Adam(strategy.model.parameters(), settings.lr, fused=True)
    strategy.attach(optimizer)
    table: list[list[float]] = []
    ends: list[int] = []
    early: list[float] = []
    done = 0
    for number in run.track(range(len(stream)), "tasks"):
        strategy.begin_task(number)
        if not isinstance(strategy, GateON):
            optimizer.state.clear()  # GateON does so itself, for every arm
        longer = dataclasses.replace(settings, epochs=epochs[number])
        early += learn(longer, run, strategy, optimizer, stream[number], number, done)
        done += epochs[number] * -(-len(stream[number].train) // settings.batch_size)
        ends.append(context(strategy, number))
        table.append([score(strategy, split, ends[task]) for task, split in enumerate(stream[: number + 1])])
        for task, reached in enumerate(table[-1]):
            run.record(after=number + 1, task=task + 1, accuracy=reached)
        run.record(tasks=number + 1, mean_accuracy=sum(table[-1]) / len(table[-1]))
    matrix = AccuracyMatrix(table)
    metrics = {
        "accuracy": matrix.average_accuracy,
        "forgetting": matrix.forgetting,
        "learned_accuracy": matrix.learned_accuracy,
        "last_task_accuracy": table[-1][-1],
    }
    if isinstance(strategy, GateON):
        occupied = strategy.occupancy()
        metrics["saturation"] = sum(occupied.values()) / max(1, len(occupied))
        metrics["contexts_found"] = float(strategy.num_contexts)
    if settings.stream == "rotated":
        fresh = [from_scratch(settings, run, split) for split in stream[1:]]
        metrics["forward_transfer"] = sum(early[1:]) / len(fresh) - sum(fresh) / len(fresh)
    return metrics


def tasks(settings: Settings, run: Run) -> list[Split]:
    """The stream of a seed."""
    whole = load(settings.data)
    split = dataclasses.replace(
        whole,
        train=whole.train.subset(min(settings.images, len(whole.train)), seed=run.seed),
        test=whole.test.subset(min(settings.test_images, len(whole.test)), seed=run.seed),
    )
    split = split.scaled().to(run.device)
    if settings.stream == "permuted":
        return permuted_stream(split.flat(), settings.tasks, seed=run.seed)
    drawn = torch.Generator().manual_seed(run.seed)
    return [
        task.flat() for task in rotated_stream(split, torch.randperm(360, generator=drawn)[: settings.tasks].tolist())
    ]


def lengths(settings: Settings, run: Run) -> list[int]:
    """Epochs of each task."""
    if not settings.uneven:
        return [settings.epochs] * settings.tasks
    drawn = torch.Generator().manual_seed(run.seed + 1)
    shift = torch.randint(3, (settings.tasks,), generator=drawn) - 1
    return (settings.epochs + shift * (settings.epochs // 2)).clamp_min(1).tolist()


def build(settings: Settings, run: Run) -> Strategy:
    """The arm's strategy around a new network."""
    torch.manual_seed(run.seed)
    w = settings.width
    model = nn.Sequential(nn.Linear(784, w), nn.ReLU(), nn.Linear(w, w), nn.ReLU(), nn.Linear(w, 10)).to(run.device)
    detector = ContextDetector(growth=1 - 0.1 ** (1 / settings.trust), window=settings.remembered)
    gateon = GateON(
        model, level=settings.level, rate=settings.rate, leak=settings.leak, max_contexts=settings.contexts,
        gates=settings.gates, availability=settings.availability, detect=settings.detect, detector=detector,
    )  # fmt: skip
    return EWC(model, strength=settings.strength, implicit=True) if settings.strength else gateon


def learn(
    settings: Settings, run: Run, strategy: Strategy, optimizer: torch.optim.Optimizer, split: Split, number: int,
    before: int = 0,
) -> list[float]:  # fmt: skip
    """One task, after ``before`` steps; accuracy on it after its first steps, where the stream asks for that."""
    rule = Backprop(strategy.model, cross_entropy)
    early: list[float] = []
    step = 0
    for epoch in range(settings.epochs):
        for x, y in Batches(split.train, settings.batch_size, shuffle=True, seed=1000 * run.seed + 10 * number + epoch):
            strategy.observe(x, y)
            optimizer.zero_grad()
            loss = rule.assign_credit(x, y)
            optimizer.step()
            step += 1
            if step == settings.first_steps and settings.stream == "rotated":
                early.append(score(strategy, split, context(strategy, number)))
            if step % 10 == 1:
                watch(settings, run, strategy, float(loss), before + step)
    if isinstance(strategy, EWC):
        strategy.end_task(Batches(split.train, 500))
    return early


def watch(settings: Settings, run: Run, strategy: Strategy, loss: float, now: int) -> None:
    """Record the loss, the context in force, and the availability of a few units."""
    if isinstance(strategy, GateON):
        run.record(step=now, loss=loss, context=strategy.context + 1)
        if settings.availability and settings.level == "neuron":
            working = strategy.gated[0].states()["weight"].working  # type: ignore[operator]
            for unit in range(5):
                run.record(step=now, availability=float(working[unit]), unit=f"unit {unit + 1}")


def context(strategy: Strategy, number: int) -> int:
    """The context that a task is learned in."""
    return strategy.context if isinstance(strategy, GateON) else number


def from_scratch(settings: Settings, run: Run, split: Split) -> float:
    """What the first steps reach in a new network of the same arm."""
    strategy = build(settings, run)
    optimizer = torch.optim.Adam(strategy.model.parameters(), settings.lr, fused=True)
    strategy.begin_task(0)
    short = dataclasses.replace(split, train=split.train[: settings.first_steps * settings.batch_size])
    return learn(dataclasses.replace(settings, epochs=1), Run(run.seed, run.device), strategy, optimizer, short, 0)[0]


@torch.no_grad()
def score(strategy: Strategy, split: Split, number: int) -> float:
    """Accuracy on a task's test images under its context."""
    if isinstance(strategy, GateON):
        output = strategy.predict(split.test.x, number)
    else:
        with strategy.as_task(number):
            output = strategy.predict(split.test.x)
    return float((output.argmax(1) == split.test.y).double().mean())


def paper_scale(settings: Settings) -> Settings:
    """A hundred tasks of 500 steps; the rate of availability follows the number of steps."""
    return dataclasses.replace(
        settings, data="mnist", images=50_000, test_images=10_000, tasks=100, epochs=10, batch_size=1_000,
        width=64 if settings.width == 64 else 2_000, rate=settings.rate * 80 / 500, trust=460, remembered=50,
    )  # fmt: skip


MAIN = ("sgd", "ewc", "availability-only", "gate-only", "n-gateon", "p-gateon")
FOUND = value("contexts_found", "n-gateon-inferred")
STUDY = Study(
    paper=Paper(
        "GateON: an unsupervised method for large scale continual learning", "Barry, Gerstner & Bellec", 2023,
        "2306.01690",
    ),
    trial=trial,
    arms={
        "sgd": Settings(gates=False, availability=False),
        "ewc": Settings(gates=False, availability=False, strength=1e5),
        "gate-only": Settings(availability=False),
        "availability-only": Settings(gates=False),
        "n-gateon": Settings(),
        "p-gateon": Settings(level="parameter", rate=0.06, leak=0.3),
        "n-gateon-inferred": Settings(detect=True),
        "n-gateon-uneven": Settings(detect=True, uneven=True),
        "narrow": Settings(width=64, tasks=15),
        "narrow-noleak": Settings(width=64, tasks=15, leak=0.0),
        "rotated": Settings(stream="rotated"),
    },
    scales={
        "smoke": {"images": 200, "test_images": 50, "tasks": 2, "epochs": 1, "width": 20, "contexts": 4,
                  "batch_size": 50, "first_steps": 2},
        "small": {},
        "paper": paper_scale,
    },
    claims=[
        Claim(
            "gates and availability keep ten tasks that plain training forgets", "Section 3",
            difference("accuracy", "n-gateon", "sgd") > 0.15,
        ),
        Claim(
            "availability adds to gates", "ablation", difference("accuracy", "n-gateon", "gate-only") > 0.03,
        ),
        Claim(
            "gates add to availability", "ablation", difference("accuracy", "n-gateon", "availability-only") > 0.03,
        ),
        Claim(
            "the loss alone shows where one context ends and another begins", "unsupervised contexts",
            all_of(FOUND > 8.99, FOUND < 11.01),
        ),
        Claim(
            "contexts that were found serve almost as well as contexts that were told", "unsupervised contexts",
            difference("accuracy", "n-gateon", "n-gateon-inferred") < 0.03,
        ),
        Claim(
            "in a narrow network the leak keeps room for new tasks", "re-activation",
            difference("last_task_accuracy", "narrow", "narrow-noleak") > 0.02,
        ),
        Claim(
            "earlier rotations help to learn the next one", "transfer", value("forward_transfer", "rotated") > 0,
        ),
    ],
    figures=[
        Curve("Mean accuracy over the tasks seen so far", arms=MAIN, x="tasks", y="mean_accuracy"),
        Heatmap(
            "Accuracy on each task (across) after each task (up)", arms=("sgd", "gate-only", "n-gateon"),
            x="task", y="after", value="accuracy",
        ),
        Curve(
            "Availability of five units: worn down where they matter, leaking back where they idle",
            arms=("n-gateon",), x="step", y="availability", series="unit",
        ),
        Curve("The context found from the loss", arms=("n-gateon-inferred", "n-gateon-uneven"), x="step", y="context"),
        Bars(
            "Share of weights whose availability is used up", metric="saturation",
            arms=("n-gateon", "p-gateon", "narrow", "narrow-noleak"),
        ),
    ],
    seeds=(3, 6),
)  # fmt: skip
