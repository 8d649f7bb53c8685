"""A sparse sub-network trains as well as the whole network, but only from its original initial values.

The paper trains a network, prunes the weights of smallest final magnitude, puts the survivors back to their values at
initialisation, and repeats. LeNet-300-100 on MNIST, pruned by 20 % a round (its output layer by 10 %), then learns
sooner and generalises better than the whole down to a few per cent of its weights. With the same mask and new random
initial values it learns later and ends less accurate the sparser it gets, and random masks do worse still. Learning
speed is the iteration of lowest validation loss; accuracy is read there, on the test images.

Small scale: 8,000 MNIST images to train on, 2,000 for validation, 5,000 for testing; eight rounds of 35 % leave 100,
65, 42, 28, 18, 12, 8, 5 and 3.3 % of the weights; Gaussian Glorot initial values, Adam at 1.2e-3 and batches of 60 as
in the paper, but 1,000 iterations a round in place of 50,000. Nothing was tuned for any arm. Two cheaper sizes were
tried first (6,000 images and 800 iterations, 4,000 and 750); on the former some tickets of 12 % were still improving
at the last iteration, so that they had no early stop to compare. The slowest controls improve to the end here, too:
their early stop counts as the last iteration, so they look faster than they are.
Paper scale: all of MNIST, 50,000 iterations, 21 rounds of 20 %; ``network="conv-2"`` (4, 6) with ``data="cifar10"``
are the paper's convolutional networks.

Every trial stands alone, so the reinitialised arm repeats the search for its masks, without the validation runs: they
change no weight, so at equal seeds its masks are the ticket arm's bit for bit. One training of the dense network gives
all one-shot masks, and the layer densities that the random masks copy. Arms at one seed share images, dense initial
values and the batch order of every round. The controls are trained only at the densities that the claims speak of.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurarium.compression import LotteryTicket
from neurarium.data import Batches, Split, load
from neurarium.lab import Claim, Curve, Paper, Run, Study, difference, ratio
from neurarium.probes import early_stop
from neurarium.training import evaluate

Arm = Literal["ticket", "reinit", "random-mask", "one-shot", "dense"]


@dataclass(frozen=True)
class Settings:
    """One arm: which sub-networks are trained, and at which densities the metrics are read."""

    arm: Arm = "ticket"
    data: str = "mnist-small"
    network: Literal["lenet", "conv-2", "conv-4", "conv-6"] = "lenet"
    train: int = 8000
    validation: int = 2000
    test: int = 5000
    iterations: int = 1000
    batch_size: int = 60
    learning_rate: float = 1.2e-3
    evaluate_every: int = 25
    rounds: int = 8
    rate: float = 0.35
    conv_rate: float = 0.1
    densities: tuple[float, ...] = (0.18, 0.12, 0.05, 0.033)


def images(settings: Settings, seed: int) -> Split:
    """A seeded choice of images, standardised."""
    source = load(settings.data)
    chosen = source.train.subset(settings.train + settings.validation, seed)
    test = source.test.subset(settings.test, seed)
    return Split(chosen[: settings.train], chosen[settings.train :], test).scaled()


def network(name: str) -> nn.Module:
    """LeNet-300-100 (266,200 weights), or two, four or six convolutions before the same kind of head."""
    sizes, layers, width = [784, 300, 100, 10], list[nn.Module](), 3
    if name != "lenet":
        pairs = int(name[-1]) // 2
        for pair in range(pairs):
            for _ in range(2):
                layers += [nn.Conv2d(width, 64 << pair, 3, padding=1), nn.ReLU()]
                width = 64 << pair
            layers.append(nn.MaxPool2d(2))
        sizes = [width * (32 >> pairs) ** 2, 256, 256, 10]
    layers.append(nn.Flatten())
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    glorot(model)
    return model


def glorot(model: nn.Module) -> None:
    """Draw Gaussian Glorot weights and set biases to zero."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_normal_(parameter)
        else:
            nn.init.zeros_(parameter)


def train(ticket: LotteryTicket, data: Split, settings: Settings, seed: int, measured: bool = True) -> dict[str, float]:
    """Train a sub-network in place; if ``measured``, watch the validation loss and test the weights of its minimum."""
    model = ticket.model
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, fused=True)
    batches = Batches(data.train, settings.batch_size, shuffle=True, drop_last=True, seed=seed)
    endless = (batch for _ in iter(int, 1) for batch in batches)
    losses: list[float] = []
    best: dict[str, Tensor] = {}
    with ticket.attach(optimizer):
        for step, (x, y) in enumerate(islice(endless, settings.iterations), start=1):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            if measured and step % settings.evaluate_every == 0:
                losses.append(evaluate(model, Batches(data.validation, 1000), F.cross_entropy))
                if losses[-1] < min(losses[:-1], default=math.inf):
                    best = copy.deepcopy(model.state_dict())
    if not measured:
        return {}
    stop = early_stop(range(settings.evaluate_every, settings.iterations + 1, settings.evaluate_every), losses)
    final = evaluate(model, Batches(data.test, 1000))
    at_stop = copy.deepcopy(model)
    at_stop.load_state_dict(best)
    accuracy = evaluate(at_stop, Batches(data.test, 1000))
    return {"accuracy": accuracy, "early_stop": stop.iteration, "final_accuracy": final}


def subnetworks(settings: Settings, data: Split, wanted: set[int], run: Run) -> Iterator[LotteryTicket | None]:
    """What the arm trains at each round, None where it trains nothing; the caller trains each before the next."""
    model = network(settings.network).to(run.device)
    has_conv = settings.network != "lenet"
    ticket = LotteryTicket(model, rate=settings.rate, rates={nn.Conv2d: settings.conv_rate} if has_conv else None)
    if settings.arm in ("one-shot", "random-mask"):
        train(ticket, data, settings, run.seed, measured=False)
    for number in range(settings.rounds + 1):
        if settings.arm == "dense":
            yield ticket if number == 0 else None
        elif settings.arm == "ticket":
            yield ticket  # its training is a round of the search
            ticket.prune_and_rewind()
        elif settings.arm == "reinit":
            yield ticket.reinitialized(1000 + run.seed, glorot) if number in wanted else None
            train(ticket, data, settings, run.seed, measured=False)
            ticket.prune_and_rewind()
        elif number in wanted:
            pruned = copy.deepcopy(ticket)
            pruned.prune_and_rewind(number)
            yield pruned if settings.arm == "one-shot" else pruned.random_mask(2000 + run.seed)
        else:
            yield None


def trial(settings: Settings, run: Run) -> dict[str, float]:
    """Train the arm's sub-networks of falling density and report each at its early stop."""
    data = images(settings, run.seed).to(run.device)
    left = [(1 - settings.rate) ** n for n in range(settings.rounds + 1)]
    nearest = {d: min(range(len(left)), key=lambda n: abs(left[n] / d - 1)) for d in settings.densities}
    candidates = subnetworks(settings, data, set(nearest.values()), run)
    rows: dict[int, dict[str, float]] = {}
    metrics: dict[str, float] = {}
    for number in run.track(range(settings.rounds + 1), "rounds"):
        candidate = next(candidates)
        if candidate is None:
            continue
        rows[number] = train(candidate, data, settings, run.seed)
        run.record(percent_left=100 * candidate.density, **rows[number])
        if settings.arm == "ticket" and number == settings.rounds:
            metrics["initial_correlation"] = survivors(candidate, run)
    read = {d: rows[0 if settings.arm == "dense" else n] for d, n in nearest.items()}
    for density, row in read.items():
        metrics |= {f"{name}_{100 * density:.3g}": value for name, value in row.items()}
    return metrics | {"mean_accuracy": sum(row["accuracy"] for row in read.values()) / len(read)}


def survivors(ticket: LotteryTicket, run: Run) -> float:
    """Record the initial values of the first layer and of its survivors; correlate their size with survival."""
    name = next(iter(ticket.masks))
    initial, mask = ticket.state_dict()["start"][name].cpu().flatten(), ticket.masks[name].cpu().flatten()
    initial = initial / initial.std()
    edges = torch.linspace(-3.5, 3.5, 36)
    for which, values in {"all": initial, "survivors": initial[mask]}.items():
        shares = torch.histogram(values, edges).hist / len(values)
        for left, share in zip(edges.tolist(), shares.tolist(), strict=False):
            run.record(initial_value=left + 0.1, percent_of_weights=100 * share, weights=which)
    return float(torch.corrcoef(torch.stack([initial.abs(), mask.float()]))[0, 1])


STUDY = Study(
    paper=Paper(
        title="The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks",
        authors="Jonathan Frankle, Michael Carbin",
        year=2018,
        arxiv="1803.03635",
    ),
    trial=trial,
    arms={name: Settings(arm=name) for name in get_args(Arm)},
    scales={
        "smoke": {"train": 300, "validation": 100, "test": 100, "iterations": 6, "evaluate_every": 2},
        "small": {},
        "paper": {
            "data": "mnist",
            "train": 55_000,
            "validation": 5_000,
            "test": 10_000,
            "iterations": 50_000,
            "evaluate_every": 100,
            "rounds": 21,
            "rate": 0.2,
        },
    },
    claims=[
        Claim(
            "At 18 % of its weights the ticket is as accurate as the whole network",
            source="Fig. 4b",
            predicate=difference("accuracy_18", "ticket", "dense") > -0.005,
        ),
        Claim(
            "At 12 % the same mask with new initial values learns more slowly",
            source="Fig. 4a",
            predicate=ratio("early_stop_12", "reinit", "ticket") > 1.2,
        ),
        Claim(
            "At 5 % the ticket is more accurate than the same mask with new initial values",
            source="Fig. 4b",
            predicate=difference("accuracy_5", "ticket", "reinit") > 0.005,
        ),
        Claim(
            "At 3.3 % the ticket is more accurate than the same mask with new initial values",
            source="Fig. 4b",
            predicate=difference("accuracy_3.3", "ticket", "reinit") > 0.01,
        ),
        Claim(
            "At 5 % the ticket is more accurate than a random mask of the same layer densities",
            source="Fig. 1",
            predicate=difference("accuracy_5", "ticket", "random-mask") > 0.02,
        ),
        Claim(
            "Over all densities original initial values beat new ones",
            source="Fig. 4b",
            predicate=difference("mean_accuracy", "ticket", "reinit") > 0,
        ),
    ],
    figures=[
        Curve(
            title="Tickets keep their accuracy as weights go; the controls lose it",
            x="percent_left",
            y="accuracy",
            log_x=True,
            note="Test accuracy at the iteration of lowest validation loss, over the percentage of weights left.",
        ),
        Curve(
            title="Tickets learn soonest at intermediate sparsity; new initial values slow the same mask down",
            x="percent_left",
            y="early_stop",
            log_x=True,
            note="Iteration of lowest validation loss; runs still improving at the end count as the last iteration.",
        ),
        Curve(
            title="Survivors of the first layer started large: few come from around zero",
            x="initial_value",
            y="percent_of_weights",
            series="weights",
            arms=("ticket",),
            note="Initial values in standard deviations, of all weights and of the last 3 %.",
        ),
    ],
    seeds=(3, 4),
)
