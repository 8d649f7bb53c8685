"""Networks of integer weights learn by training the bits, few of the bits are enough, and the rest can hold anything.

The paper (Ivan, 2022) makes every weight a signed integer of k bits and trains the bits, by a step function of real
variables with a straight-through gradient. It reports fully connected networks better than ordinary training on MNIST,
convolutional ones as good; that the three most significant bits bring nearly all of the accuracy; that the rest, more
than 90 % of a network of 32-bit weights, can store arbitrary data; and sparse networks at low depths. Its tables are
not known to us.

Small: LeNet-300-100 on 6,000 MNIST images, 4,000 for the test, batches of 128, 5 epochs, Adam. ``bits-k`` trains all
planes of k-bit weights, ``train-n`` the n most significant of 16; ``stored-noise`` and ``stored-weights`` train 3 of 32
and hold random bytes, or the floats of another trained network, in the other 29. Arms of a seed share images and
batches. Rates on seed 100: the best of 3e-4, 1e-3, 2e-3 and 4e-3 for floats; of 2e-3, 5e-3, 1e-2 and 2e-2 for
``bits-6`` and ``train-3`` (5e-3 both, which the other arms take over) and, without the lowest, for ``train-1`` (1e-2).
The ``conv`` arms are two convolutions and a linear layer on 6,000 Fashion-MNIST images for 3 epochs, at the rates of
``float`` and ``bits-6``; no claim rests on them, for no margin was set. Paper: all images, 30 epochs; its residual
networks are left out.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.compression import capacity, read, store
from neurarium.data import Arrays, Batches, load
from neurarium.lab import Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Study, all_of, difference, value
from neurarium.layers import bit_layers, bitwise, to_integers
from neurarium.learning import Backprop
from neurarium.probes import bit_report
from neurarium.probes.weights._bits import planes
from neurarium.training import evaluate, fit


@dataclass(frozen=True)
class Settings:
    """An arm: how its weights are made, and the network and training around them."""

    bits: int = 0  # 0 for floats
    trainable: int = 0  # planes, the most significant first; 0 for all
    payload: Literal["none", "noise", "weights"] = "none"
    data: str = "mnist-small"
    images: int = 6_000
    test_images: int = 4_000
    hidden: tuple[int, int] = (300, 100)
    convolutional: bool = False
    epochs: int = 5
    lr: float = 5e-3
    batch_size: int = 128


def trial(settings: Settings, run: Run) -> Metrics:
    """Train one arm and look at its accuracy, its bits and what is stored in them."""
    split = load(settings.data).scaled().to(run.device)
    split = split if settings.convolutional else split.flat()
    train = split.train.subset(min(settings.images, len(split.train)), run.seed)
    test = split.test.subset(min(settings.test_images, len(split.test)), run.seed)
    torch.manual_seed(run.seed)
    model = network(settings, train)
    payload = b""
    if settings.bits:
        bitwise(model, settings.bits, trainable=settings.trainable or None)
        payload = make_payload(settings, run, model, train)
        if payload:
            store(model, payload)
    model.to(run.device)
    before = planes(model)
    learn(settings, run, model, train, test)
    reached = evaluate(model, Batches(test, 1000))
    metrics = {"accuracy": reached, "gap": evaluate(model, Batches(train, 1000)) - reached}
    if settings.bits:
        metrics |= look_into(settings, run, model, before)
    if payload:
        metrics |= {
            "payload_ok": float(read(model) == payload),
            "payload_share": stored_share(settings, model, payload),
        }
    return metrics


def network(settings: Settings, train: Arrays) -> nn.Sequential:
    """The network of an arm, of floats."""
    first, second = settings.hidden
    if settings.convolutional:
        return nn.Sequential(
            nn.Unflatten(1, (1, 28)), nn.Conv2d(1, 16, 5, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2),
            nn.ReLU(), nn.Flatten(), nn.Linear(32 * 25, 10),
        )  # fmt: skip
    return nn.Sequential(
        nn.Linear(train.x.shape[1], first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, 10)
    )  # fmt: skip


def learn(settings: Settings, run: Run, model: nn.Module, train: Arrays, test: Arrays) -> None:
    """Train, recording accuracy and flips by epoch."""
    loader = Batches(train, settings.batch_size, shuffle=True, seed=run.seed)
    optimizer, rule = torch.optim.Adam(model.parameters(), settings.lr, fused=True), Backprop(model, cross_entropy)
    last = planes(model)
    for epoch in run.track(range(1, settings.epochs + 1), "epochs"):
        fit(rule, loader, optimizer)
        run.record(epoch=epoch, accuracy=evaluate(model, Batches(test, 1000)))
        if settings.bits > 1:
            flips = bit_report(model, last).flips
            last = planes(model)
            first = next(iter(flips.values()))
            for plane, rate in enumerate(first):
                run.record(epoch=epoch, plane=plane, flipped=rate)


def make_payload(settings: Settings, run: Run, model: nn.Module, train: Arrays) -> bytes:
    """Random bytes that fill the network, or the floats of another one, as often as they fit."""
    if settings.payload == "none":
        return b""
    size = capacity(model)
    if settings.payload == "noise":
        return np.random.default_rng(run.seed).bytes(size)
    torch.manual_seed(run.seed + 1000)
    other = network(settings, train).to(run.device)
    loader = Batches(train, settings.batch_size, shuffle=True, seed=run.seed)
    fit(Backprop(other, cross_entropy), loader, torch.optim.Adam(other.parameters(), 1e-3))
    floats = b"".join(p.detach().cpu().numpy().tobytes() for p in other.parameters())
    torch.manual_seed(run.seed)
    return (floats * (size // len(floats) + 1))[:size]


def look_into(settings: Settings, run: Run, model: nn.Module, before: dict[str, torch.Tensor]) -> dict[str, float]:
    """Zeros, flips by plane over the whole training, and how the integer weights are spread."""
    report = bit_report(model, before)
    whole = torch.cat([values.flatten() for values, _ in to_integers(model).values()]).double()
    counts, edges = np.histogram(whole.cpu().numpy() / 2 ** max(0, settings.bits - 1), bins=33, range=(-1, 1))
    for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True):
        run.record(weight=(left + right) / 2, share=count / len(whole))
    flips = [sum(rates) / len(rates) for rates in zip(*report.flips.values(), strict=True)]
    for plane, rate in enumerate(flips):
        run.record(significance=plane - settings.bits + 1, flipped_in_all=rate)
    return {"sparsity": report.total_sparsity, "flips_highest": flips[-2] if len(flips) > 1 else flips[-1]}


def stored_share(settings: Settings, model: nn.Module, payload: bytes) -> float:
    """Bits of payload per bit of weight."""
    weights = sum(p.integers(x).numel() for _, p, x in bit_layers(model))
    return 8 * len(payload) / (weights * settings.bits)


def paper(settings: Settings) -> Settings:
    """All images, for longer."""
    data = settings.data if settings.convolutional else "mnist"
    return dataclasses.replace(settings, data=data, images=60_000, test_images=10_000, epochs=30)


DEPTHS = tuple(f"bits-{k}" for k in (2, 3, 4, 6, 8))
TRAINED = ("train-1", "train-2", "train-3", "train-4", "train-all")
CONV = Settings(convolutional=True, data="fashion-mnist", epochs=3)

STUDY = Study(
    paper=Paper("Bit-wise Training of Neural Network Weights", "Ivan", 2022, "2202.09571"),
    trial=trial,
    arms={
        "float": Settings(lr=2e-3),
        **{f"bits-{k}": Settings(bits=k) for k in (2, 3, 4, 6, 8)},
        "train-1": Settings(bits=16, trainable=1, lr=1e-2),
        **{f"train-{n}": Settings(bits=16, trainable=n) for n in (2, 3, 4)},
        "train-all": Settings(bits=16),
        "train-3-of-32": Settings(bits=32, trainable=3),
        "stored-noise": Settings(bits=32, trainable=3, payload="noise"),
        "stored-weights": Settings(bits=32, trainable=3, payload="weights"),
        "conv-float": dataclasses.replace(CONV, lr=2e-3),
        "conv-bits-6": dataclasses.replace(CONV, bits=6),
    },
    scales={
        "smoke": {"data": "mnist-small", "images": 256, "test_images": 100, "hidden": (20, 10), "epochs": 1},
        "small": {},
        "paper": paper,
    },
    claims=[
        Claim(
            "trained bits are as good as trained floats", "Sec. 4.1", difference("accuracy", "bits-6", "float") > -0.005
        ),
        Claim(
            "the sign alone is not enough", "Sec. 4.3", difference("accuracy", "train-3", "train-1") > 0.005
        ),
        Claim(
            "three bits are: all sixteen are not better", "Sec. 4.3",
            difference("accuracy", "train-all", "train-3") < 0.01,
        ),
        Claim(
            "nor worse", "Sec. 4.3", difference("accuracy", "train-all", "train-3") > -0.01
        ),
        Claim(
            "a payload in the other bits changes nothing", "Sec. 4.4",
            all_of(
                difference("accuracy", "stored-noise", "train-3-of-32") > -0.005,
                difference("accuracy", "stored-noise", "train-3-of-32") < 0.005,
            ),
        ),
        Claim("and is read back whole", "Sec. 4.4", value("payload_ok", "stored-weights") > 0.999),
        Claim("it takes 90 % of the network's bits", "Sec. 4.4", value("payload_share", "stored-noise") > 0.90),
        Claim("networks of few bits are sparse", "Sec. 4.5", value("sparsity", "bits-3") > 0.15),
    ],
    figures=[
        Bars("Accuracy by the number of trained bits of 16 (most significant first)", metric="accuracy", arms=TRAINED),
        Bars("Accuracy by depth, against floats", metric="accuracy", arms=("float", *DEPTHS)),
        Curve(
            "How often a bit has flipped by the end: 0 is the sign, -1 the highest magnitude bit",
            arms=("bits-8", "train-all"), x="significance", y="flipped_in_all",
        ),
        Curve(
            "The integer weights after training", arms=("bits-3", "bits-4", "bits-6", "bits-8"), x="weight", y="share"
        ),
        Heatmap("Flips per epoch in the first layer", arms=("bits-8",), x="epoch", y="plane", value="flipped"),
        Curve("And in a convolutional network", arms=("conv-float", "conv-bits-6"), x="epoch", y="accuracy"),
        Bars("Share of weights that are zero", metric="sparsity", arms=DEPTHS),
    ],
    seeds=(3, 7),
)  # fmt: skip
