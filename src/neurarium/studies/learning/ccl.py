"""A training set whose size breathes, easy examples first in each breath, beats always using all of it.

The paper (Kesgin and Amasyali, 2022) trains a network once, takes 1 / loss as each example's easiness, and trains
again on subsets drawn in proportion to it, whose size cycles between a quarter and the whole set. Over 18 text and
image sets it finds cycling better than no curriculum and than curricula that only grow or only shrink (its CIFAR-10
example: best validation accuracy 0.741 against 0.703), and argues that alternating calm, biased gradients with noisy,
unbiased ones is better than either.

Small: 2,000 images of Fashion-MNIST, 1,000 held out as a validation set, with a network of two strided convolutions (8
and 16 channels), with true labels and with 15 % of the training labels changed at random; the 8 x 8 digits with a
hidden layer of 64; and 2,000 sentences of film reviews, 1,000 held out, as bags of the 2,000 commonest words with a
hidden layer of 64. Each arm sees as many examples as 12 epochs have, Adam 1e-3, batches of 64; the scorer is trained in
the same way without a curriculum, once per seed and set. Accuracy is measured at the same 22 numbers of examples seen
in every arm; the metrics are means over the sets. ``vanilla-twice`` is plain training for 24 epochs, since a curriculum
needs a scorer first; it carries no claim. ``theory`` follows the two gradients on a quadratic, exactly. Nothing was
tuned. Paper: CIFAR-10 and its noisy copy, the digits, the reviews, 50 epochs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.data import Arrays, Batches, load, load_text
from neurarium.lab import Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Study, difference, value
from neurarium.learning import (
    Backprop,
    CurriculumSampler,
    cycle_sizes,
    difficulty_scores,
    growing_sizes,
    shrinking_sizes,
)
from neurarium.theory import Oracle, expected_distance
from neurarium.training import evaluate


@dataclass(frozen=True)
class Settings:
    """``noise`` is the share of wrong labels in the noisy set; no ``text`` leaves the sentences out."""

    schedule: Literal["vanilla", "cycle", "grow", "shrink", "theory"] = "vanilla"
    order: Literal["easy", "random", "hard"] = "easy"
    rescore: bool = False
    data: str = "fashion-mnist"
    text: str = "mr"
    sentences: int = 2_000
    words: int = 2_000
    images: int = 2_000
    validation: int = 1_000
    noise: float = 0.15
    epochs: float = 12.0
    scorer_epochs: int = 12
    checkpoints: int = 22
    lr: float = 1e-3
    batch_size: int = 64


def trial(settings: Settings, run: Run) -> Metrics:
    """Train by one schedule on every set, or follow the theory."""
    if settings.schedule == "theory":
        return theory(run)
    found: dict[str, float] = {}
    sets = ("clean", "noisy", "digits", *(["text"] if settings.text else []))
    for name in run.track(sets, "sets"):
        train, validation = prepare(name, settings, run)
        curve = learn(name, settings, run, train, validation)
        found |= {f"best_{name}": max(curve), f"final_{name}": curve[-1]}
    means = {
        f"{kind}_accuracy": sum(found[f"{kind}_{name}"] for name in sets) / len(sets) for kind in ("best", "final")
    }
    return means | found


def prepare(name: str, settings: Settings, run: Run) -> tuple[Arrays, Arrays]:
    """Training and validation examples of one set."""
    if name == "text":
        return reviews(settings, run)
    if name == "digits":
        split = load("digits").scaled().flat().to(run.device)
        train, validation = split.train, split.validation
    else:
        split = load(settings.data)
        needed = min(settings.images + settings.validation, len(split.train))
        few = replace(split, train=split.train.subset(needed, run.seed), test=split.test[:0])
        drawn = few.scaled().to(run.device).train
        drawn = Arrays(drawn.x[:, None] if drawn.x.dim() == 3 else drawn.x, drawn.y)
        cut = needed - settings.validation
        train, validation = drawn[:cut], drawn[cut:]
    if name == "noisy":
        generator = torch.Generator().manual_seed(run.seed)
        wrong = torch.rand(len(train), generator=generator) < settings.noise
        labels = train.y.cpu()
        other = (labels + torch.randint(1, 10, labels.shape, generator=generator)) % 10
        train = Arrays(train.x, torch.where(wrong, other, labels).to(run.device))
    return train, validation


def reviews(settings: Settings, run: Run) -> tuple[Arrays, Arrays]:
    """Sentences as bags of the words that are commonest in those to train on."""
    split = load_text(settings.text, seed=run.seed)
    order = torch.randperm(len(split.train), generator=torch.Generator().manual_seed(run.seed)).tolist()
    train, validation = [split.train[i] for i in order[: settings.sentences]], split.validation[: settings.validation]
    counts = Counter(word for text, _ in train for word in text.split())
    place = {word: i for i, (word, _) in enumerate(counts.most_common(settings.words))}

    def bags(texts: list[tuple[str, int]]) -> Arrays:
        x = torch.zeros(len(texts), settings.words)
        for row, (text, _) in enumerate(texts):
            x[row, [place[word] for word in text.split() if word in place]] = 1.0
        return Arrays(x.to(run.device), torch.tensor([label for _, label in texts], device=run.device))

    return bags(train), bags(validation)


def network(name: str, example: Tensor) -> nn.Module:
    """A hidden layer of 64 for vectors, two strided convolutions for images."""
    if example.dim() == 1:
        return nn.Sequential(nn.Linear(len(example), 64), nn.ReLU(), nn.Linear(64, 2 if name == "text" else 10))
    side = example.shape[-1] // 4
    return nn.Sequential(
        nn.Conv2d(example.shape[0], 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(16 * side * side, 10),
    )  # fmt: skip


def learn(name: str, settings: Settings, run: Run, train: Arrays, validation: Arrays) -> list[float]:
    """Train by the arm's schedule; accuracy on the validation set at equally spaced numbers of examples."""
    sizes, scores = schedule(name, settings, run, train)
    sampler = CurriculumSampler(scores, sizes, seed=run.seed)
    torch.manual_seed(run.seed)
    model = network(name, train.x[0]).to(run.device)
    rule, optimizer = Backprop(model, cross_entropy), torch.optim.Adam(model.parameters(), settings.lr, fused=True)
    total = int(sum(sizes) * len(train))
    due = [total * (i + 1) // settings.checkpoints for i in range(settings.checkpoints)]
    seen = 0
    curve: list[float] = []
    for number in range(len(sizes)):
        sampler.set_epoch(number)
        if settings.rescore:
            sampler.scores = 1 / difficulty_scores(model, Batches(train, 500))
        for rows in sampler.indices().split(settings.batch_size):
            optimizer.zero_grad()
            rule.assign_credit(train.x[rows], train.y[rows])
            optimizer.step()
            seen += len(rows)
            if len(curve) < len(due) and seen >= due[len(curve)]:
                curve.append(evaluate(model, Batches(validation, 1000)))
                run.record(epochs_seen=seen / len(train), accuracy=curve[-1], data=name)
        run.record(epochs_seen=seen / len(train), fraction=sizes[number])
    while len(curve) < len(due):
        curve.append(evaluate(model, Batches(validation, 1000)))
    run.record(data=name, effective_share=sampler.effective_size / len(train))
    return curve


def schedule(name: str, settings: Settings, run: Run, train: Arrays) -> tuple[Sequence[float], Tensor]:
    """Fractions of the passes, and scores from a network that was trained without a curriculum."""
    even = torch.ones(len(train))
    if settings.schedule == "vanilla":
        return [1.0] * int(settings.epochs), even
    sizes = {
        "cycle": lambda: cycle_sizes(epochs=settings.epochs, exact=True),
        "grow": lambda: growing_sizes(epochs=settings.epochs),
        "shrink": lambda: shrinking_sizes(epochs=settings.epochs),
    }[settings.schedule]()
    if settings.order == "random" or settings.rescore:
        return sizes, even
    torch.manual_seed(run.seed + 1000)
    scorer = network(name, train.x[0]).to(run.device)
    rule, optimizer = Backprop(scorer, cross_entropy), torch.optim.Adam(scorer.parameters(), settings.lr, fused=True)
    for _ in range(settings.scorer_epochs):
        for x, y in Batches(train, settings.batch_size, shuffle=True, seed=run.seed):
            optimizer.zero_grad()
            rule.assign_credit(x, y)
            optimizer.step()
    losses = difficulty_scores(scorer, Batches(train, 500))
    return sizes, 1 / losses if settings.order == "easy" else losses


def theory(run: Run, lr: float = 0.1, steps: int = 200) -> Metrics:
    """Where alternating two gradients is better than either, by the bias and the noise of the easy one."""

    def distances(bias: float, variance: float) -> tuple[float, float, float]:
        easy, all_ = Oracle(bias, variance), Oracle(0.0, 1.0)
        schedules = ([easy] * steps, [all_] * steps, islice(cycle([easy, all_]), steps))
        first, second, both = (expected_distance(s, lr) for s in schedules)
        return first, second, both

    better = 0
    grid = [(b / 20, v / 20) for b in range(13) for v in range(1, 21)]
    for bias, variance in grid:
        first, second, both = distances(bias, variance)
        gain = min(first, second) / both - 1
        better += both < min(first, second)
        run.record(bias=bias, easy_variance=variance, gain=max(-0.5, min(0.5, gain)))
    first, second, both = distances(0.2, 0.1)
    return {
        "easy_distance": first, "vanilla_distance": second, "alternating_distance": both,
        "share_of_grid": better / len(grid),
    }  # fmt: skip


CURVES = ("vanilla", "ccl-easy", "ccl-random", "ccl-hard", "grow-easy", "shrink-easy", "spl-cycle")
STUDY = Study(
    paper=Paper("Cyclical Curriculum Learning", "Kesgin and Amasyali", 2022, "2202.05531"),
    trial=trial,
    arms={
        "vanilla": Settings(),
        "ccl-easy": Settings("cycle"),
        "ccl-random": Settings("cycle", "random"),
        "ccl-hard": Settings("cycle", "hard"),
        "grow-easy": Settings("grow"),
        "shrink-easy": Settings("shrink"),
        "spl-cycle": Settings("cycle", rescore=True),
        "vanilla-twice": Settings(epochs=24.0),
        "theory": Settings("theory"),
    },
    scales={
        "smoke": {
            "data": "mnist-small", "text": "", "images": 200, "validation": 100, "epochs": 2.0, "scorer_epochs": 1,
            "checkpoints": 3,
        },
        "small": {},
        "paper": {
            "data": "cifar10", "images": 45_000, "sentences": 7_000, "words": 20_000, "validation": 5_000,
            "epochs": 50.0, "scorer_epochs": 50,
        },
    },
    claims=[
        Claim("a cycling curriculum beats none", "Tables 3-6", difference("best_accuracy", "ccl-easy", "vanilla") > 0),
        Claim(
            "cycling is no worse than growing", "Tables 3-6",
            difference("best_accuracy", "ccl-easy", "grow-easy") > -0.003,
        ),
        Claim(
            "nor than shrinking", "Tables 3-6", difference("best_accuracy", "ccl-easy", "shrink-easy") > -0.003
        ),
        Claim("it helps against wrong labels", "Sec. 5", difference("best_noisy", "ccl-easy", "vanilla") > 0.01),
        Claim(
            "alternating calm biased with noisy unbiased gradients is better than the calm ones alone", "Sec. 3",
            value("alternating_distance", "theory") - value("easy_distance", "theory") < 0,
        ),
        Claim(
            "and than the noisy ones alone", "Sec. 3",
            value("alternating_distance", "theory") - value("vanilla_distance", "theory") < 0,
        ),
    ],
    figures=[
        Curve("Accuracy by examples seen", arms=CURVES, x="epochs_seen", y="accuracy", series="data"),
        Curve(
            "How much of the data each pass uses", arms=("vanilla", "ccl-easy", "grow-easy", "shrink-easy"),
            x="epochs_seen", y="fraction",
        ),
        Heatmap(
            "Where alternating is better than both (gain over the better one)", arms=("theory",), x="bias",
            y="easy_variance", value="gain",
        ),
        Bars("Best validation accuracy, mean over the sets", arms=(*CURVES, "vanilla-twice"), metric="best_accuracy"),
    ],
    seeds=(3, 5),
)  # fmt: skip
