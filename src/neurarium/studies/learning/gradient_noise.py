"""Annealed gradient noise starts networks that would never start from a bad initialisation.

The paper (Neelakantan, Vilnis et al., 2015) adds Gaussian noise of variance eta / (1 + t)^0.55 to every gradient. On
MNIST with 20 hidden layers of 50 units, 40 runs a cell, it takes an all-zero initialisation from a best of 11.4 % to
94.5 %, helps a poor one, and changes nothing from a good one: that boundary is part of the claim.

Small: 12,000 training and 4,000 test images, SGD at 0.1, batches of 100, gradients clipped at norm 10, 10 epochs. Arms
share data, batch order and (per initialisation) initial weights. "started" is 1 where the training accuracy ever passes
30 %. eta was chosen per initialisation on seed 100 from 0.003, 0.01, 0.03, 0.1 and 0.3: 0.1 from zero, 0.03 from the
simple one, 0.01 from the good one. It has to fit the rate and the number of steps: SGD walks each weight a distance of
about lr * sqrt(eta * sum_t (1 + t)^-0.55), 0.72 * sqrt(eta) in these 1,200 steps, and the walk must end near the 0.2
that signals need to pass 20 layers of 50. At 0.3, in the paper's grid, it ends at 0.4 and ruins every arm, the good one
included.

The second kind of network is the end-to-end memory network: 2 hops of width 20 learn from 1,000 made stories of 8
sentences to answer questions that take two of them (Adam at 0.01, batches of 32, 30 epochs, eta 0.01). Rates from 0.001
to 0.03 were tried on seed 100: without noise they all end with about 60 % wrong.

Left out: the neural GPU, the neural programmer and the neural random-access machine, whose code and data are not to be
had. Paper: all of MNIST, 60 epochs at a rate of 0.01, and 10,000 stories; give ``--seeds 40`` for the paper's number of
runs.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch.nn.functional import cross_entropy

from neurarium.data import Batches, load, two_fact_stories
from neurarium.lab import Bars, Claim, Curve, Metrics, Paper, Run, Study, all_of, difference, value
from neurarium.learning import Backprop, GradientNoise
from neurarium.models import MemoryNetwork, plain_mlp
from neurarium.training import evaluate, fit


@dataclass(frozen=True)
class Settings:
    """``eta`` and ``gamma`` are the noise's; ``clip`` is the largest norm of the gradient."""

    task: Literal["images", "stories"] = "images"
    init: Literal["zero", "simple", "he", "sussillo"] = "zero"
    eta: float = 0.0
    gamma: float = 0.55
    dropout: float = 0.0
    data: str = "mnist-small"
    train: int = 12_000
    test: int = 4_000
    depth: int = 20
    epochs: int = 10
    batch_size: int = 100
    lr: float = 0.1
    clip: float = 10.0


def trial(settings: Settings, run: Run) -> Metrics:
    """A deep network on images, or a memory network on stories."""
    return images(settings, run) if settings.task == "images" else stories(settings, run)


def stories(settings: Settings, run: Run) -> Metrics:
    """Share of the questions about new stories that a memory network answers wrongly."""
    split = two_fact_stories(settings.train, settings.test, seed=run.seed).to(run.device)
    model = MemoryNetwork(len(split.classes)).to(run.device)
    rule = Backprop(model, cross_entropy)
    optimizer = torch.optim.Adam(model.parameters(), settings.lr)
    GradientNoise(settings.eta, settings.gamma, max_norm=settings.clip).attach(optimizer)
    batches = Batches(split.train, settings.batch_size, shuffle=True, seed=run.seed)
    for epoch in run.track(range(1, settings.epochs + 1), "epochs"):
        loss = fit(rule, batches, optimizer)[0]
        error = 1 - evaluate(model, Batches(split.test, 1000))
        run.record(story_epoch=epoch, error=error)
    return {"error": error, "story_loss": loss}


def images(settings: Settings, run: Run) -> Metrics:
    """Accuracy of a deep plain network, and whether it ever started to learn."""
    split = load(settings.data).scaled().flat().to(run.device)
    train, test = split.train[: settings.train], split.test[: settings.test]
    model = plain_mlp(
        train.x.shape[1], len(split.classes), depth=settings.depth, init=settings.init, dropout=settings.dropout
    ).to(run.device)
    rule = Backprop(model, cross_entropy)
    optimizer = torch.optim.SGD(model.parameters(), settings.lr)
    noise = GradientNoise(settings.eta, settings.gamma, max_norm=settings.clip)
    noise.attach(optimizer)
    batches = Batches(train, settings.batch_size, shuffle=True, seed=run.seed)
    best = started = loss = 0.0
    steps = itertools.count()
    for epoch in run.track(range(1, settings.epochs + 1), "epochs"):
        total = 0.0
        for x, y in batches:
            optimizer.zero_grad()
            total += float(rule.assign_credit(x, y))
            if next(steps) % 60 == 0:
                norm = float(torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]))
                run.record(step=noise.step, gradient_norm=max(norm, 1e-12), sigma=noise.sigma(noise.step))
            optimizer.step()
        loss = total / len(batches)
        accuracy = evaluate(model, Batches(test, 1000))
        best = max(best, accuracy)
        started = max(started, float(evaluate(model, Batches(train[:4000], 1000)) > 0.3))
        run.record(epoch=epoch, accuracy=accuracy)
    return {"accuracy": accuracy, "best_accuracy": best, "train_loss": loss, "started": started}


STORIES = Settings("stories", train=1_000, test=1_000, epochs=30, batch_size=32, lr=0.01)


def smoke(settings: Settings) -> Settings:
    """Seconds."""
    return replace(settings, train=300, test=200, depth=4, epochs=1)


def paper(settings: Settings) -> Settings:
    """The paper's sizes."""
    if settings.task == "stories":
        return replace(settings, train=10_000)
    return replace(settings, data="mnist", train=60_000, test=10_000, epochs=60, lr=0.01)


STUDY = Study(
    paper=Paper(
        "Adding Gradient Noise Improves Learning for Very Deep Networks", "Neelakantan et al.", 2015, "1511.06807"
    ),
    trial=trial,
    arms={
        "zero": Settings(),
        "zero+noise": Settings(eta=0.1),
        "zero+constant-noise": Settings(eta=0.1, gamma=0.0),
        "simple": Settings(init="simple"),
        "simple+noise": Settings(init="simple", eta=0.03),
        "simple+dropout": Settings(init="simple", dropout=0.5),
        "he": Settings(init="he"),
        "he+noise": Settings(init="he", eta=0.01),
        "stories": STORIES,
        "stories+noise": replace(STORIES, eta=0.01),
    },
    scales={"smoke": smoke, "small": {}, "paper": paper},
    claims=[
        Claim(
            "from all zeros, nothing is learnt without noise", "Table 1, row 3",
            value("best_accuracy", "zero") < 0.12,
        ),
        Claim(
            "from all zeros, noise lets training start", "Table 1, row 3: mean 10.1 to 49.7 %",
            all_of(difference("started", "zero+noise", "zero") > 0.4, value("best_accuracy", "zero+noise") > 0.5),
        ),
        Claim(
            "from a simple initialisation, noise helps", "Table 1, rows 1 and 2",
            difference("accuracy", "simple+noise", "simple") > 0.0,
        ),
        Claim(
            "from a good initialisation, noise changes nothing", "Table 1, last row",
            abs(difference("accuracy", "he+noise", "he")) < 0.03,
        ),
        Claim(
            "a memory network answers no worse with noise", "experiments with memory networks",
            difference("error", "stories+noise", "stories") < 0.02,
        ),
    ],
    figures=[
        Curve("Noise starts what zero weights cannot: test accuracy of every run", x="epoch", y="accuracy"),
        Curve("Questions that take two facts: share of wrong answers", x="story_epoch", y="error"),
        Bars("Final test accuracy", metric="accuracy"),
        Curve(
            "The data gradient awakes under the noise", arms=("zero", "zero+noise"), x="step", y="gradient_norm",
            log_y=True,
        ),
        Curve("The noise fades slowly", arms=("zero+noise", "zero+constant-noise"), x="step", y="sigma"),
    ],
    seeds=(5, 5),
)  # fmt: skip
