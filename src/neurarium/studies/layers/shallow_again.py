"""A deep residual stack and one broad layer of the same branches reach the same losses.

Bermeitinger, Hrycej and Handschuh multiply a stack of residual layers out: the input, plus the sum of all branches of
the input, plus products of two branches and more. Without the products the stack is one broad layer with the same
parameters. They train both layouts in 6,912 settings on MNIST and CIFAR-10 (layers, filters, kernel sizes and more) and
find training and validation losses so alike that the broad network can take the deep one's place. They give no numbers
in the abstract, and how many trained settings differ by how much is not known to us.

Small: a 3 x 3 convolution with stride 2 to 8 channels and a ReLU, d residual branches of a 3 x 3 convolution and a
ReLU, averages over 4 x 4 pixels, a linear layer; 4,000 training and 2,000 validation images, Adam with a rate of 1e-3
for all, batches of 64. Tasks: MNIST with d = 4 and 8 (8 epochs), CIFAR-10 (its JPEG copy) with d = 4 (10 epochs).
Arms: ``sequential``; ``parallel``, that network after `parallelise`; ``none``, d = 0 (``--set layout=plain`` leaves
the identity out). Equal seeds give equal initial weights and batches. ``retained`` is the share of what depth gains
over none that the broad layer keeps: (none - parallel) / (none - sequential). The rate is not tuned, and the same for
both layouts, since the comparison is at equal rates.

Paper: all images, 100 epochs; with ``--set grid=true`` an arm trains both layouts over a grid of depths 1 to 32, 4 to
32 filters, kernels 3, 5 and 7, with Adam and SGD, and records their losses over the overdetermination ratio of examples
times outputs to parameters.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import Arrays, Batches, load
from neurarium.lab import Bars, Claim, Curve, Metrics, Paper, Run, Study, difference
from neurarium.lab.claims import Quantity
from neurarium.layers import Residual, parallelise
from neurarium.learning import Backprop
from neurarium.probes import overdetermination, truncation_error
from neurarium.training import evaluate, fit

Layout = Literal["sequential", "parallel", "plain"]
Optimizer = Literal["adam", "sgd"]


@dataclass(frozen=True)
class Settings:
    """``depth`` 0 is the network without branches; a ``grid`` compares both layouts at all its depths, filters and
    kernels."""

    data: str = "mnist"
    layout: Layout = "sequential"
    depth: int = 4
    filters: int = 8
    kernel: int = 3
    epochs: int = 8
    train: int = 4_000
    validation: int = 2_000
    batch_size: int = 64
    optimizer: Optimizer = "adam"
    lr: float = 1e-3
    grid: bool = False
    depths: tuple[int, ...] = (2, 8)
    all_filters: tuple[int, ...] = (4, 8)
    kernels: tuple[int, ...] = (3,)
    with_sgd: bool = False


def trial(settings: Settings, run: Run) -> Metrics:
    """Train one network, or both layouts over a grid."""
    train, validation = images(settings, run)
    if settings.grid:
        return grid(settings, run, train, validation)
    model = network(settings, train.x.shape[1], run)
    if settings.layout == "sequential" and settings.depth:
        orders(model, validation, run, "start")
    metrics: dict[str, float] = {}
    for epoch, losses in enumerate(learn(settings, run, model, train, validation), start=1):
        metrics.update(losses)
        run.record(epoch=epoch, **losses)
    if settings.layout == "sequential" and settings.depth:
        metrics |= orders(model, validation, run, "end")
    accuracy = evaluate(model, Batches(validation, 500))
    q = overdetermination(model, Batches(train, 500)).ratio
    return {**metrics, "accuracy": accuracy, "overdetermination": q}


def network(settings: Settings, channels: int, run: Run) -> nn.Module:
    """The network in its layout, with the weights of the seed: those of the sequential one."""
    torch.manual_seed(run.seed)
    f, k = settings.filters, settings.kernel
    stem = [nn.Conv2d(channels, f, 3, stride=2, padding=1), nn.ReLU()]
    branches = [nn.Sequential(nn.Conv2d(f, f, k, padding=k // 2), nn.ReLU()) for _ in range(settings.depth)]
    stack = branches if settings.layout == "plain" else [Residual(branch) for branch in branches]
    model: nn.Module = nn.Sequential(*stem, *stack, nn.AvgPool2d(4), nn.Flatten(), nn.LazyLinear(10))
    model(torch.zeros(1, channels, *((32, 32) if channels == 3 else (28, 28))))
    if settings.layout == "parallel" and settings.depth > 1:
        model = parallelise(model, fuse=True).model
    return model.to(run.device)


def images(settings: Settings, run: Run) -> tuple[Arrays, Arrays]:
    """Images to train on and others to validate on, standardised, with a channel dimension."""
    split = load(settings.data)
    chosen = split.train.subset(settings.train + settings.validation, seed=run.seed)
    split = replace(split, train=chosen, validation=chosen[:1], test=chosen[:1]).scaled().to(run.device)
    x = split.train.x if split.train.x.dim() == 4 else split.train.x.unsqueeze(1)
    both = Arrays(x, split.train.y)
    return both[: settings.train], both[settings.train :]


def learn(settings: Settings, run: Run, model: nn.Module, train: Arrays, validation: Arrays) -> list[dict[str, float]]:
    """Train; the losses of each epoch on both sets, the network held still."""
    kinds = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    optimizer = kinds[settings.optimizer](model.parameters(), settings.lr, fused=True)
    batches = Batches(train, settings.batch_size, shuffle=True, seed=run.seed)
    found = []
    for _ in run.track(range(settings.epochs), "epochs"):
        fit(Backprop(model, cross_entropy), batches, optimizer)
        sets = {"train_loss": train[: settings.validation], "validation_loss": validation}
        found.append({name: evaluate(model, Batches(part, 500), cross_entropy) for name, part in sets.items()})
    return found


def orders(model: nn.Module, validation: Arrays, run: Run, when: str) -> dict[str, float]:
    """How much of the stack its first two orders are."""
    found = truncation_error(model, validation.x[:200])
    for order, share in enumerate(found.by_order[:3]):
        run.record(order=order, share_of_norm=share, when=when)
    return {"missed_by_order_1": found.relative[0], "missed_by_order_2": found.relative[1]}


def grid(settings: Settings, run: Run, train: Arrays, validation: Arrays) -> Metrics:
    """Both layouts in every setting of the grid."""
    gaps: dict[str, list[float]] = {"train_gap": [], "validation_gap": []}
    optimizers: tuple[Optimizer, ...] = ("adam", "sgd") if settings.with_sgd else ("adam",)
    choices = itertools.product(settings.depths, settings.all_filters, settings.kernels, optimizers)
    for depth, filters, kernel, optimizer in run.track(list(choices), "settings"):
        losses = {}
        at = replace(settings, depth=depth, filters=filters, kernel=kernel, optimizer=optimizer)
        for layout in ("sequential", "parallel"):
            model = network(replace(at, layout=layout), train.x.shape[1], run)
            losses[layout] = learn(at, run, model, train, validation)[-1]
            q = overdetermination(model, [(train.x[:1], train.y[:1])]).ratio * len(train)
            run.record(q=q, loss_by_q=losses[layout]["validation_loss"], layout=layout)
        for name, gap in gaps.items():
            part = name.replace("gap", "loss")
            gap.append(losses["parallel"][part] - losses["sequential"][part])
            run.record(sequential_loss=losses["sequential"][part], parallel_loss=losses["parallel"][part], part=part)
    return {name: sum(gap) / len(gap) for name, gap in gaps.items()}


def smoke(settings: Settings) -> Settings:
    """Seconds, on digits that ship with the package."""
    few = replace(settings, data="mnist-small", train=128, validation=64, epochs=1)
    return replace(few, depths=(2,), all_filters=(4,))


def paper(settings: Settings) -> Settings:
    """All images, and the grid at its whole size."""
    everything = replace(settings, train=45_000, validation=5_000, epochs=100, depths=(1, 2, 4, 8, 16, 32))
    return replace(everything, all_filters=(4, 8, 16, 32), kernels=(3, 5, 7), with_sgd=True)


def retained(task: str, none: str, loss: str = "validation_loss") -> Quantity:
    """Share of what depth gains over none that the broad layer keeps."""
    return difference(loss, none, f"{task}-parallel") / difference(loss, none, f"{task}-sequential")


CIFAR = Settings(data="cifar10", epochs=10)

STUDY = Study(
    paper=Paper("Make Deep Networks Shallow Again", "Bermeitinger, Hrycej and Handschuh", 2023, arxiv="2309.08414"),
    trial=trial,
    arms={
        "mnist-none": Settings(depth=0),
        "mnist-4-sequential": Settings(),
        "mnist-4-parallel": Settings(layout="parallel"),
        "mnist-8-sequential": Settings(depth=8),
        "mnist-8-parallel": Settings(depth=8, layout="parallel"),
        "cifar-none": replace(CIFAR, depth=0),
        "cifar-4-sequential": CIFAR,
        "cifar-4-parallel": replace(CIFAR, layout="parallel"),
    },
    scales={"smoke": smoke, "paper": paper},
    seeds=(3, 3),
    claims=[
        Claim(
            "Four branches side by side keep what depth gains (MNIST)", "abstract, experiments",
            retained("mnist-4", "mnist-none") > 0.9,
        ),
        Claim(
            "Eight branches side by side keep what depth gains (MNIST)", "abstract, experiments",
            retained("mnist-8", "mnist-none") > 0.9,
        ),
        Claim(
            "Four branches side by side keep what depth gains (CIFAR-10)", "abstract, experiments",
            retained("cifar-4", "cifar-none") > 0.9,
        ),
        Claim(
            "Validation losses are alike on CIFAR-10", "abstract, experiments",
            abs(difference("validation_loss", "cifar-4-parallel", "cifar-4-sequential")) < 0.05,
        ),
        Claim(
            "Eight layers fit the training images no better than the broad one", "abstract, experiments",
            difference("train_loss", "mnist-8-parallel", "mnist-8-sequential") < 0.05,
        ),
        Claim(
            "The broad layer is worth its parameters", "experiments",
            difference("accuracy", "mnist-4-parallel", "mnist-none") > 0.05,
        ),
    ],
    figures=[
        Curve("Validation loss by epoch: depth is ahead first", x="epoch", y="validation_loss", log_y=True),
        Curve("Training loss by epoch", x="epoch", y="train_loss", log_y=True),
        Curve(
            "Share of the output's norm by order, before and after training",
            arms=("mnist-4-sequential", "mnist-8-sequential", "cifar-4-sequential"), x="order", y="share_of_norm",
            series="when",
        ),
        Bars("Validation accuracy", metric="accuracy"),
    ],
)  # fmt: skip
