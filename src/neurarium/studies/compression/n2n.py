"""Two policies that edit a teacher's layers find students a tenth of its size that are nearly as accurate.

The paper (Ashok et al., 2017) lets one recurrent policy remove layers of a trained network and a second one shrink what
is left; students are distilled for five epochs and rewarded by accuracy times compression. It reports compression by
10 to 20 times on CIFAR-10 at about the teachers' accuracies, and that policies trained on a small teacher speed up
the search on a larger one.

Small: MNIST at 14 x 14 pixels, 3,000 training, 1,000 validation and 1,000 test images. The teacher has five
convolutions (8-8-pool-16-16-pool-16) with batch normalisation and two linear layers (32-10), a quarter of the full-
size width, and trains for six epochs. The search is 6 updates of the removal policy and 12 of the shrinkage policy, 4
students each; a student sees 1,500 images once; rewards use the validation images. The best student is trained for six
epochs on all training images. ``random`` is the same search whose policies never learn (their first distributions are
the same: layers kept with probability 0.8, factors uniform); ``removal-only`` stops after stage 1; so does
``n2n-transfer``, whose removal policy has been through the same stage on a teacher with three convolutions (the claim
is on the first four updates). The student by hand is no arm: the trial of ``n2n`` trains one of as many parameters as
its own result (``hand_accuracy``). Students' rate and batch size and the policies' rates were chosen for the ``n2n``
arm on seed 100, where the numbers of updates were chosen too: with six updates of each policy and rates of 0.01 and
0.02 nothing could be learnt. Paper: 100 + 100 updates of 5 students, MNIST at full size; the authors' networks on
CIFAR-10 have no arm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    """What an arm is at a scale; arms differ in the first two."""

    start: Literal["learn", "random", "transfer"] = "learn"
    shrinks: bool = True  # whether stage 2 follows stage 1
    removal_iterations: int = 6  # updates of stage 1
    shrink_iterations: int = 12
    students: int = 4  # per update
    epochs: int = 1  # of a student in the search
    search_images: int = 1_500
    final_epochs: int = 6  # of the best student, on all training images
    removal_rate: float = 0.01  # Adam's, for the policies
    shrink_rate: float = 0.03
    channels: int = 8  # of the teacher's first convolution
    teacher_epochs: int = 6
    teacher_rate: float = 3e-3
    teacher_batch: int = 32
    data: str = "mnist-small"
    pool: int = 2  # pixels averaged, each way
    images: int = 3_000
    held_images: int = 1_000  # for validation, and as many for the test
    learning_rate: float = 1e-2  # of students
    batch_size: int = 16


def trial(settings: Settings, run: Run) -> Metrics:
    """Search with the arm's policies; the best student and, where both stages learn, one by hand of its size."""
    same = replace(settings, start="learn", shrinks=True)  # what all arms of a seed share
    train, held, test = examples(same, run.seed, run.device)
    held_loader, test_loader = Batches(held, 1000), Batches(test, 1000)
    teacher = trained(same, run.seed, run.device, deep=True)
    policies: tuple[Policy | None, Policy | None] = (None, None)
    if settings.start == "transfer":
        earlier = method(settings, run, final_epochs=0)
        smaller = trained(same, run.seed, run.device, deep=False)
        torch.manual_seed(run.seed)
        earlier.compress(smaller, Batches(train, 1000), held_loader)
        learnt = [search.policy for search in earlier.searches]
        policies = (learnt[0], learnt[1] if settings.shrinks else None)
    n2n = method(settings, run, settings.final_epochs, policies)
    torch.manual_seed(run.seed)
    student = n2n.compress(teacher, Batches(train, 1000), held_loader)
    size, teacher_size = (sum(p.numel() for p in model.parameters()) for model in (student, teacher))
    means = [mean for search in n2n.searches for mean in search.rewards]
    late = means[-max(len(means) // 3, 1) :]
    record(n2n.searches, teacher_size, run)
    metrics = {
        "accuracy": evaluate(student, test_loader),
        "teacher_accuracy": evaluate(teacher, test_loader),
        "compression": teacher_size / size,
        "reward_best": max(candidate.reward or -1.0 for search in n2n.searches for candidate in search.history),
        "reward_late": sum(late) / len(late),
        "reward_early": sum(means[:4]) / len(means[:4]),
    }
    if settings == same:
        hand = small_student(tuple(train.x.shape[1:]), 10, size).to(run.device)
        train_students(
            [hand], ask_teacher(teacher, Batches(train, 1000)), epochs=settings.final_epochs,
            learning_rate=settings.learning_rate, batch_size=settings.batch_size, labels=1.0, anneal=True,
        )  # fmt: skip
        metrics["hand_accuracy"] = evaluate(hand, test_loader)
    return metrics


def examples(settings: Settings, seed: int, device: str) -> tuple[Arrays, Arrays, Arrays]:
    """Training, validation and test images, averaged over squares of ``pool`` pixels."""
    split = load(settings.data).scaled().to(device)
    chosen = split.train.subset(settings.images + settings.held_images, seed)
    test = split.test.subset(min(settings.held_images, len(split.test)), seed)
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


def trained(settings: Settings, seed: int, device: str, deep: bool) -> nn.Module:
    """A teacher, trained on the labels."""
    train, _, _ = examples(settings, seed, device)
    torch.manual_seed(seed)
    teacher = network(settings.channels, train.x.shape[-1], deep).to(device)
    optimizer = torch.optim.Adam(teacher.parameters(), settings.teacher_rate)
    loader = Batches(train, settings.teacher_batch, shuffle=True, seed=seed)
    fit(Backprop(teacher, cross_entropy), loader, optimizer, epochs=settings.teacher_epochs)
    return teacher


def method(
    settings: Settings, run: Run, final_epochs: int, policies: tuple[Policy | None, Policy | None] = (None, None)
) -> N2N:
    """The search of an arm; with rates of 0 its policies stay as they are."""
    learns = settings.start != "random"
    return N2N(
        settings.removal_iterations, settings.shrinks * settings.shrink_iterations,
        students_per_iteration=settings.students, epochs=settings.epochs, final_epochs=final_epochs,
        search_examples=settings.search_images, learning_rate=settings.learning_rate, batch_size=settings.batch_size,
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


def paper(settings: Settings) -> Settings:
    """The paper's budget; there is time to carry both policies over."""
    return replace(
        settings, shrinks=settings.shrinks or settings.start == "transfer", data="mnist", pool=1, images=50_000,
        held_images=10_000, channels=32, epochs=5, search_images=50_000, removal_iterations=100, shrink_iterations=100,
        students=5, final_epochs=100, removal_rate=0.003, shrink_rate=0.01, learning_rate=1e-3, batch_size=32,
    )  # fmt: skip


STUDY = Study(
    paper=Paper(
        "N2N Learning: Network to Network Compression via Policy Gradient Reinforcement Learning", "Ashok et al.", 2017,
        arxiv="1709.06030",
    ),
    trial=trial,
    arms={
        "n2n": Settings(),
        "random": Settings("random"),
        "removal-only": Settings(shrinks=False),
        "n2n-transfer": Settings("transfer", shrinks=False),
    },
    scales={
        "smoke": {
            "images": 320, "held_images": 100, "channels": 4, "teacher_rate": 1e-2, "removal_iterations": 2,
            "shrink_iterations": 2, "search_images": 32, "students": 2, "epochs": 1, "final_epochs": 1,
        },
        "small": {},
        "paper": paper,
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
    seeds=(4, 4),
)  # fmt: skip
