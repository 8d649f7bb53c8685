"""One online learner with one setting serves texts, images and sounds whose classes come one after another.

The paper (Wójcik et al., 2023) puts the ensemble of experts of its predecessor behind any frozen extractor and reports
that it works unchanged on documents, images and speech: classes one at a time, every item once, nothing kept; clearly
above references without a memory, and above the same ensemble with a hard gate.

Small: three domains in one trial, class after class in a drawn order, batches of 10, each item once. Texts: which of
eight libraries a documentation string is from (they are installed wherever this runs; hashed words, 384 features).
Images: MNIST digits under convolutions that were trained on printed letters (512 features). Sounds: ten simulated words
of two vowels (log mel statistics, 160 features). Up to 100 items per class to learn and 40 to test. The paper's own
corpora and encoders need a network. All learners see the same features in the same order: the ensemble with 128 experts
of which 16 vote, a gain of 0.1 per class and centred cosines in every domain; linear heads by Adam (``naive``, ``lwf``,
``ewc``, ``replay-20`` with 20 items per class), CWR*, class means (``nmc``), and ``joint``, the head on all classes at
once for five passes. On seed 100, by mean accuracy over the domains: Adam's rate of each head among 1e-3, 3e-3, 1e-2
and 3e-2, EWC's strength among 1, 1e2 and 1e4, CWR*'s rate among 0.01, 0.1 and 1; the ensemble has the paper's
settings. Paper: 2,000 items per class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from neurarium.continual import (
    EWC,
    AccuracyMatrix,
    CopyWeightReinit,
    DifferentiableEnsemble,
    Finetune,
    LearningWithoutForgetting,
    NearestMeanClassifier,
    Replay,
    Strategy,
    learn_stream,
)
from neurarium.data import Split, split_stream
from neurarium.lab import Bars, Claim, Curve, Metrics, Paper, Run, Study, all_of, difference, ratio
from neurarium.studies.continual._domains import images, sounds, texts
from neurarium.studies.continual._frozen import Stopwatch

Method = Literal["dee", "ee", "naive", "lwf", "ewc", "cwr", "replay", "nmc", "joint"]


@dataclass(frozen=True)
class Settings:
    """A learner on the three domains.

    ``gain`` is what the ensemble's scores rise per class in all, ``strength`` EWC's, ``letters`` what the image encoder
    is trained on.
    """

    method: Method = "dee"
    per_class: int = 100
    test: int = 40
    batch_size: int = 10
    experts: int = 128
    k: int = 16
    gain: float = 0.1
    strength: float = 1.0
    cwr_lr: float = 0.01
    head_lr: float = 3e-3
    letters: int = 3_000
    pre_training_epochs: int = 2


def trial(settings: Settings, run: Run) -> Metrics:
    """Learn the classes of each domain one after another with one method."""
    domains: dict[str, Callable[[], Split]] = {
        "texts": lambda: texts(settings.per_class, settings.test, run.seed),
        "images": lambda: images(
            settings.per_class, settings.test, run, settings.letters, settings.pre_training_epochs
        ),
        "sounds": lambda: sounds(settings.per_class, settings.test, run.seed),
    }
    found: dict[str, dict[str, float]] = {}
    for name in run.track(list(domains), "domains"):
        torch.manual_seed(run.seed)
        split = domains[name]().to(run.device)
        found[name] = learn(settings, run, split, name)
    means = {key: sum(rows[key] for rows in found.values()) / 3 for key in found["texts"]}
    return means | {f"accuracy_{name}": rows["accuracy"] for name, rows in found.items()}


def learn(settings: Settings, run: Run, split: Split, domain: str) -> dict[str, float]:
    """One domain's stream."""
    torch.manual_seed(run.seed)
    classes, size = len(split.classes), split.train.x.shape[1]
    strategy = build(settings, size, classes).to(run.device)
    clock = Stopwatch(strategy)
    kept: list[int] = []
    joint = settings.method == "joint"
    tasks = [split] if joint else split_stream(split, 1, order_seed=run.seed)

    def after_task(task: int, row: list[float]) -> None:
        run.record(share_of_classes=(task + 1) / len(tasks), seen_accuracy=sum(row[: task + 1]) / (task + 1), at=domain)
        kept.append(state_bytes(strategy))

    matrix: AccuracyMatrix = learn_stream(
        strategy, tasks, optimizer=lambda p: torch.optim.Adam(p, settings.head_lr),
        batch_size=settings.batch_size, seed=run.seed, epochs=5 if joint else 1, after_task=after_task,
    )  # fmt: skip
    items = len(split.train) * (5 if joint else 1)
    return {
        "accuracy": matrix.average_accuracy,
        "forgetting": matrix.forgetting,
        "backward_transfer": matrix.backward_transfer,
        "seconds_per_1000": 1000 * clock.seconds / items,
        "state_kib": kept[-1] / 1024,
        "growth_by_items": growth(settings, split) if settings.method == "dee" else 0.0,
    }


def growth(settings: Settings, split: Split) -> float:
    """Bytes that a second pass over all items adds to what is kept."""
    learner = build(settings, split.train.x.shape[1], len(split.classes))
    sizes = []
    for _ in range(2):
        learner.observe(split.train.x[::7], split.train.y[::7])
        sizes.append(state_bytes(learner))
    return float(sizes[1] - sizes[0])


def build(settings: Settings, size: int, classes: int) -> Strategy:
    """The arm's learner on features."""
    match settings.method:
        case "dee" | "ee":
            return DifferentiableEnsemble(
                num_experts=settings.experts, k=settings.k, gate="soft" if settings.method == "dee" else "hard",
                lr=settings.gain * settings.batch_size / settings.per_class, center=True,
            )  # fmt: skip
        case "cwr":
            return CopyWeightReinit(lr=settings.cwr_lr)
        case "nmc":
            return NearestMeanClassifier()
    head = nn.Linear(size, classes)
    match settings.method:
        case "lwf":
            return LearningWithoutForgetting(head, strength=1.0)
        case "ewc":
            return EWC(head, strength=settings.strength, implicit=True)
        case "replay":
            return Replay(head, capacity=20 * classes, batch_size=settings.batch_size)
    return Finetune(head)


def state_bytes(strategy: Strategy) -> int:
    """Everything that is kept, the model included."""
    return sum(t.nbytes for t in strategy.state_dict().values() if isinstance(t, torch.Tensor))


FREE = ("naive", "lwf", "ewc")
STUDY = Study(
    paper=Paper(
        "Domain-Agnostic Neural Architecture for Class Incremental Continual Learning in Document Processing Platform",
        "Wójcik et al.", 2023, "2307.05399",
    ),
    trial=trial,
    arms={
        "dee": Settings(),
        "ee": Settings("ee"),
        "naive": Settings("naive"),
        "lwf": Settings("lwf"),
        "ewc": Settings("ewc"),
        "cwr": Settings("cwr"),
        "replay-20": Settings("replay", head_lr=1e-2),
        "nmc": Settings("nmc"),
        "joint": Settings("joint", head_lr=1e-2),
    },
    scales={
        "smoke": {"per_class": 20, "test": 5, "experts": 16, "k": 4, "letters": 60, "pre_training_epochs": 1},
        "small": {},
        "paper": {"per_class": 2_000, "test": 200, "letters": 40_000, "pre_training_epochs": 10},
    },
    claims=[
        Claim(
            "far above references that keep nothing, on average over domains", "claim 1",
            all_of(*(difference("accuracy", "dee", arm) > 0.20 for arm in FREE)),
        ),
        Claim("it forgets far less than plain training", "claim 1", difference("forgetting", "naive", "dee") > 0.30),
        Claim("near a head that saw all classes at once", "claim 1", difference("accuracy", "joint", "dee") < 0.15),
        Claim(
            "the differentiable gate is better than the hard one", "claim 2", difference("accuracy", "dee", "ee") > 0.0
        ),
        Claim(
            "learning takes no more than three times as long", "claim 3", ratio("seconds_per_1000", "dee", "naive") < 3
        ),
    ],
    figures=[
        Curve(
            "Accuracy on the classes seen so far, as classes arrive", arms=("dee", "naive", "nmc"),
            x="share_of_classes", y="seen_accuracy", series="at",
        ),
        Bars("Accuracy on all classes, mean over domains", metric="accuracy"),
        Bars("Texts", metric="accuracy_texts"),
        Bars("Images", metric="accuracy_images"),
        Bars("Sounds", metric="accuracy_sounds"),
    ],
    seeds=(3, 8),
)  # fmt: skip
