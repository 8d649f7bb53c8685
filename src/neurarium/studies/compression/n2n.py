"""Two policies that edit a teacher's layers find students a tenth of its size that are nearly as accurate.

The paper (Ashok et al., 2017) lets one recurrent policy remove layers of a trained network and a second one shrink what
is left; students are distilled for five epochs and rewarded by accuracy times compression. It reports compression by
10 to 20 times on CIFAR-10 at about the teachers' accuracies, and that policies trained on a small teacher speed up
the search on a larger one.

Small: MNIST at 14 x 14 pixels, 3,000 training, 1,000 validation and 1,000 test images. The teacher has five
convolutions (8-8-pool-16-16-pool-16) with batch normalisation and two linear layers (32-10), a quarter of the full-
size width, and trains for six epochs. The search is 6 + 6 updates of 4 students; a student sees 1,500 images once;
rewards use the validation images. The best student is trained for ten epochs on all training images. ``random`` is
the same search whose policies never learn (their first distributions are the same: layers kept with probability 0.8,
factors uniform); ``removal-only`` stops after stage 1; ``n2n-transfer`` starts from policies of the same search on a
teacher with three convolutions. The student by hand is no arm: each trial trains one of as many parameters as its own
result (``hand_accuracy``). Students' rate, batch size and the policies' rates were chosen for the ``n2n`` arm on seed
100. Paper: 100 + 100 updates of 5 students, MNIST at full size; the authors' networks on CIFAR-10 have no arm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, cross_entropy

from neurarium.compression import N2N, ask_teacher, small_student, train_students
from neurarium.data import Arrays, Batches, load
from neurarium.lab import Bars, Claim, Curve, Metrics, Paper, Run, Scatter, Study, difference, value
from neurarium.learning import Backprop
from neurarium.search import ArchitectureSearch, Policy
from neurarium.training import evaluate, fit


@dataclass(frozen=True)
class Settings:
    """What an arm is at a scale; iterations are updates of a policy, rates are Adam's."""

    start: Literal["learn", "random", "transfer"] = "learn"
    removal_iterations: int = 6
    shrink_iterations: int = 6
    students: int = 4
    epochs: int = 1
    search_images: int = 1_500
    final_epochs: int = 10
    removal_rate: float = 0.01
    shrink_rate: float = 0.02
    channels: int = 8
    teacher_epochs: int = 6
    teacher_rate: float = 3e-3
    data: str = "mnist-small"
    pool: int = 2
    images: int = 3_000
    held_images: int = 1_000
    learning_rate: float = 1e-2
    batch_size: int = 32


def trial(settings: Settings, run: Run) -> Metrics:
    """Search with the arm's policies; the best student, and one by hand of its size."""
    train, held, test = examples(settings, run)
    held_loader, test_loader = Batches(held, 1000), Batches(test, 1000)
    loader = Batches(train, settings.batch_size, shuffle=True, seed=run.seed)
    teacher = trained(settings, run, loader, deep=True)
    policies: tuple[Policy | None, Policy | None] = (None, None)
    if settings.start == "transfer":
        earlier = method(settings, run, final_epochs=0)
        earlier.compress(trained(settings, run, loader, deep=False), Batches(train, 1000), held_loader)
        found = {type(search.policy): search.policy for search in earlier.searches}
        policies = tuple(found.values())  # type: ignore[assignment]
    n2n = method(settings, run, settings.final_epochs, policies)
    torch.manual_seed(run.seed)
    student = n2n.compress(teacher, Batches(train, 1000), held_loader)
    size, teacher_size = (sum(p.numel() for p in model.parameters()) for model in (student, teacher))
    hand = small_student(tuple(train.x.shape[1:]), 10, size)
    train_students(
        [hand], ask_teacher(teacher, Batches(train, 1000)), epochs=settings.final_epochs,
        learning_rate=settings.learning_rate, batch_size=settings.batch_size, labels=1.0, anneal=True,
    )  # fmt: skip
    means = [mean for search in n2n.searches for mean in search.rewards]
    record(n2n.searches, teacher_size, run)
    return {
        "accuracy": evaluate(student, test_loader),
        "teacher_accuracy": evaluate(teacher, test_loader),
        "hand_accuracy": evaluate(hand, test_loader),
        "compression": teacher_size / size,
        "reward_best": max(candidate.reward or -1.0 for search in n2n.searches for candidate in search.history),
        "reward_late": sum(means[-(-len(means) * 2 // 3) :]) / len(means[-(-len(means) * 2 // 3) :]),
        "reward_early": sum(means[:4]) / len(means[:4]),
    }


def examples(settings: Settings, run: Run) -> tuple[Arrays, Arrays, Arrays]:
    """Training, validation and test images, averaged over squares of ``pool`` pixels."""
    split = load(settings.data).scaled().to(run.device)
    chosen = split.train.subset(settings.images + settings.held_images, run.seed)
    test = split.test.subset(min(settings.held_images, len(split.test)), run.seed)
    parts = (chosen[: settings.images], chosen[settings.images :], test)
    small = [Arrays(avg_pool2d(part.x[:, None], settings.pool), part.y) for part in parts]
    return small[0], small[1], small[2]


def network(channels: int, side: int, deep: bool) -> nn.Module:
    """Five convolutions and two linear layers, or three and two."""
    c, d = channels, 2 * channels
    plan = [(1, c), (c, c), None, (c, d), (d, d), None, (d, d)] if deep else [(1, c), None, (c, d), None, (d, d)]
    layers: list[nn.Module] = []
    for step in plan:
        block = [] if step is None else [nn.Conv2d(*step, 3, padding=1), nn.BatchNorm2d(step[1]), nn.ReLU()]
        layers += block or [nn.MaxPool2d(2)]
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(d * (side // 4) ** 2, 4 * channels), nn.ReLU(), nn.Linear(4 * channels, 10)
    )


def trained(settings: Settings, run: Run, loader: Batches, deep: bool) -> nn.Module:
    """A teacher, trained on the labels."""
    torch.manual_seed(run.seed)
    x, _ = next(iter(loader))
    teacher = network(settings.channels, x.shape[-1], deep).to(run.device)
    optimizer = torch.optim.Adam(teacher.parameters(), settings.teacher_rate)
    fit(Backprop(teacher, cross_entropy), loader, optimizer, epochs=settings.teacher_epochs)
    return teacher


def method(
    settings: Settings, run: Run, final_epochs: int, policies: tuple[Policy | None, Policy | None] = (None, None)
) -> N2N:
    """The search of an arm; with rates of 0 its policies stay as they are."""
    learns = settings.start != "random"
    return N2N(
        settings.removal_iterations, settings.shrink_iterations, students_per_iteration=settings.students,
        epochs=settings.epochs, final_epochs=final_epochs, search_examples=settings.search_images,
        learning_rate=settings.learning_rate, batch_size=settings.batch_size,
        removal_rate=learns * settings.removal_rate, shrink_rate=learns * settings.shrink_rate,
        policies=policies, generator=torch.Generator().manual_seed(run.seed),
    )  # fmt: skip


def record(searches: list[ArchitectureSearch], teacher_size: int, run: Run) -> None:
    """Rewards by update, and every student."""
    update = 0
    for stage, search in enumerate(searches, 1):
        for mean in search.rewards:
            update += 1
            run.record(update=update, reward=mean, stage=stage)
        for candidate in search.history:
            if candidate.model is not None and candidate.accuracy is not None:
                run.record(size=teacher_size / candidate.parameters, student_accuracy=candidate.accuracy)


STUDY = Study(
    paper=Paper(
        "N2N Learning: Network to Network Compression via Policy Gradient Reinforcement Learning", "Ashok et al.", 2017,
        arxiv="1709.06030",
    ),
    trial=trial,
    arms={
        "n2n": Settings(),
        "random": Settings("random"),
        "removal-only": Settings(shrink_iterations=0),
        "n2n-transfer": Settings("transfer"),
    },
    scales={
        "smoke": {
            "images": 320, "held_images": 100, "channels": 4, "teacher_rate": 1e-2, "removal_iterations": 2,
            "shrink_iterations": 2, "search_images": 32, "students": 2, "epochs": 1, "final_epochs": 1,
        },
        "small": {},
        "paper": {
            "data": "mnist", "pool": 1, "images": 50_000, "held_images": 10_000, "channels": 32, "epochs": 5,
            "search_images": 50_000, "removal_iterations": 100, "shrink_iterations": 100, "students": 5,
            "final_epochs": 100, "removal_rate": 0.003, "shrink_rate": 0.01, "learning_rate": 1e-3,
        },
    },
    claims=[
        Claim("students are more than five times smaller", "Table 2", value("compression", "n2n") > 5),
        Claim(
            "and nearly as accurate as the teacher", "Table 2",
            value("accuracy", "n2n") - value("teacher_accuracy", "n2n") > -0.03,
        ),
        Claim(
            "policies that learn draw better students than random ones", "Sec. 4",
            difference("reward_late", "n2n", "random") > 0.03,
        ),
        Claim(
            "policies of a smaller teacher give a head start", "Sec. 4.4",
            difference("reward_early", "n2n-transfer", "n2n") > 0.02,
        ),
        Claim(
            "the best student is no worse than that of random search", "Sec. 4",
            difference("reward_best", "n2n", "random") > -0.01,
        ),
    ],
    figures=[
        Curve("Mean reward of the students of each update: stage 1, then stage 2", x="update", y="reward"),
        Scatter("Test accuracy of the final student against its compression", x="compression", y="accuracy"),
        Bars("Best reward found", metric="reward_best"),
    ],
    seeds=(3, 3),
)  # fmt: skip
