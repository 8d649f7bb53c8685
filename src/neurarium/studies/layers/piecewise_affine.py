"""Transformers train as well when every product of floats is an addition of their bits as integers.

The paper (Kosson & Jaggi, 2023) replaces products by piecewise affine ones, first in the matrix products, then in the
whole network and its gradient, then in the optimizer too, without touching a hyper-parameter; translation transformers,
DeiT-Tiny and convolutional networks lose little or nothing; adder layers do worse. Its scores are not known to us.

Small: a vision transformer on scikit-learn's digits (1,200 images, 538 for the test, 16 patches of 2 x 2, width 32, two
layers, two heads, 6 epochs), and a causal character transformer of the same size on the descriptions of scikit-learn's
data sets (250 steps); AdamW with cosine decay. Arms share data, initial weights and batch order. ``pam-matmul`` has
piecewise affine matrix products, ``pam-network`` all of the network and the loss's gradient, ``pam-full`` the optimizer
too; ``pam-exact-backward`` is ``pam-network`` with the derivative of the piecewise affine functions themselves.
``adder`` has adder layers, normed, for the linear maps of its transformer layers; its attention multiplies. The
``conv`` arms are a ConvMixer with GELU and batch norm (width 32, two layers, 3 epochs in batches of 60); no claim rests
on them.

Rates on seed 100, outside the seeds that are run, for the ordinary network alone, and taken over by all piecewise
affine arms: 5e-3 of (2e-3, 5e-3, 1e-2) for images, 1e-2 of (2e-3, 5e-3, 1e-2, 2e-2) for text. The rival has its own,
2e-2 of (2e-3, 5e-3, 1e-2, 2e-2, 4e-2). The ConvMixer's is 2e-2 of (5e-3, 1e-2, 2e-2, 4e-2). Paper:
CIFAR-10, patches of 4 x 4, DeiT-Tiny's size; ConvMixer-256/8 with patches of one pixel.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.data import Arrays, Batches, load
from neurarium.lab import Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Study, difference, value
from neurarium.layers import pam, to_piecewise_affine
from neurarium.learning import PAMAdamW
from neurarium.models import CausalTransformer
from neurarium.probes import multiplication_report
from neurarium.studies.layers._adder import adder_
from neurarium.studies.layers._conv_mixer import conv_mixer
from neurarium.studies.layers._product_errors import matmul_error, ratios
from neurarium.studies.layers._vision_transformer import VisionTransformer, as_images
from neurarium.studies.layers.rezero import prose
from neurarium.training import evaluate

Loss = Callable[[Tensor, Tensor], Tensor]
CHARACTERS = 128


@dataclass(frozen=True)
class Settings:
    """An arm: the task, and how far piecewise affine products reach."""

    task: Literal["images", "convolution", "text"] = "images"
    products: Literal["true", "matmul", "network", "full", "adder"] = "true"
    approximate_backward: bool = True
    data: str = "digits"
    images: int = 1_200
    epochs: int = 6
    batch_size: int = 30
    steps: int = 250
    sequences: int = 8
    context: int = 32
    patch: int = 2
    width: int = 32
    heads: int = 2
    layers: int = 2
    feed_forward: int = 64
    kernel_size: int = 3
    lr: float = 5e-3
    weight_decay: float = 1e-4


def trial(settings: Settings, run: Run) -> Metrics:
    """Train one network on its task."""
    return text(settings, run) if settings.task == "text" else images(settings, run)


def images(settings: Settings, run: Run) -> Metrics:
    """A vision transformer, or a convolutional network."""
    s = settings
    split = load(settings.data).scaled()
    # nothing is chosen on the validation part, so both are for the test
    held = Arrays(torch.cat([split.validation.x, split.test.x]), torch.cat([split.validation.y, split.test.y]))
    train, test = (as_images(part).to(run.device) for part in (split.train, held))
    train = train.subset(min(settings.images, len(train)), run.seed)
    torch.manual_seed(run.seed)
    image, classes = train.x[0], len(split.classes)
    if s.task == "images":
        made: nn.Module = VisionTransformer(image, classes, s.patch, s.width, s.heads, s.layers, s.feed_forward)
    else:
        made = conv_mixer(image, classes, s.patch, s.width, s.layers, s.kernel_size)
    model, loss = convert(settings, made.to(run.device))
    rounds = -(-len(train) // settings.batch_size)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for epoch in range(settings.epochs):
            yield from Batches(train, settings.batch_size, shuffle=True, seed=1000 * run.seed + epoch)

    every = rounds if s.epochs < 5 else 2 * rounds

    def look(step: int, mean_loss: float) -> None:
        if step % every == 0 or step == settings.epochs * rounds:
            reached = evaluate(model, Batches(test, 500))
            run.record(epoch=step // rounds, loss=mean_loss, accuracy=reached)

    products = learn(settings, run, model, loss, batches(), settings.epochs * rounds, look)
    for row in ratios() if settings.products == "matmul" else ():
        run.record(**row)
    return {
        "accuracy": evaluate(model, Batches(test, 500)),
        "multiplications": float(products),
        "matmul_error": matmul_error(settings.width, settings.products not in ("true", "adder")),
    }


def text(settings: Settings, run: Run) -> Metrics:
    """A causal transformer that predicts the next character."""
    train, held_out = (part[part < CHARACTERS] for part in prose("descriptions"))
    s = settings
    torch.manual_seed(run.seed)
    made = CausalTransformer(CHARACTERS, s.width, s.heads, s.layers, s.feed_forward, s.context)
    model, loss = convert(settings, made.to(run.device))
    rng = run.rng()

    def windows(source: np.ndarray, starts: np.ndarray) -> tuple[Tensor, Tensor]:
        rows = torch.from_numpy(source[starts[:, None] + np.arange(s.context + 1)].astype(np.int64)).to(run.device)
        return rows[:, :-1], rows[:, 1:].flatten()

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(s.steps):
            yield windows(train, rng.integers(len(train) - s.context, size=s.sequences))

    def look(step: int, mean_loss: float) -> None:
        if step % max(1, s.steps // 25) == 0:
            run.record(step=step, text_loss=mean_loss)

    flat = nn.Sequential(model, nn.Flatten(0, 1))
    products = learn(settings, run, flat, loss, batches(), s.steps, look)
    starts = np.arange(0, min(len(held_out), 64 * s.sequences * s.context) - s.context, s.context)
    nats = 0.0
    with torch.no_grad():
        for part in np.array_split(starts, max(1, len(starts) // 32)):
            x, y = windows(held_out, part)
            nats += float(cross_entropy(flat.eval()(x), y, reduction="sum"))
    return {"validation_loss": nats / (len(starts) * s.context), "multiplications": float(products)}


def convert(settings: Settings, model: nn.Module) -> tuple[nn.Module, Loss]:
    """The arm's form of a network, and its loss."""
    if settings.products == "true":
        return model, cross_entropy
    if settings.products == "adder":
        return adder_(model), cross_entropy
    level = "matmul" if settings.products == "matmul" else "network"
    made = to_piecewise_affine(model, level, approximate_backward=settings.approximate_backward).model
    return made, cross_entropy if level == "matmul" else pam.cross_entropy


def learn(
    settings: Settings, run: Run, model: nn.Module, loss: Loss, batches: Iterator[tuple[Tensor, Tensor]], steps: int,
    look: Callable[[int, float], None],
) -> int:  # fmt: skip
    """Train on the batches; returns the float multiplications of one whole step, the second, its optimizer included."""
    kind = PAMAdamW if settings.products == "full" else torch.optim.AdamW
    optimizer = kind(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    losses: list[float] = []
    counted = 0
    for step, (x, y) in enumerate(run.track(batches), start=1):
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * (1 + math.cos(math.pi * (step - 1) / steps)) / 2
        model.train()

        def update(x: Tensor = x, y: Tensor = y) -> None:
            optimizer.zero_grad()
            now = loss(model(x), y)
            now.backward()
            optimizer.step()
            losses.append(float(now.detach()))

        if step == 2:
            counted = multiplication_report(update).total
        else:
            update()
        look(step, float(np.mean(losses[-10:])))
    return counted


def paper_scale(settings: Settings) -> Settings:
    """DeiT-Tiny and ConvMixer-256/8 on CIFAR-10; a longer text run."""
    if settings.task == "text":
        return dataclasses.replace(settings, steps=22_000, sequences=64, context=256, width=512, heads=4, layers=6,
                                   feed_forward=1024, lr=5e-4)  # fmt: skip
    if settings.task == "convolution":
        return dataclasses.replace(settings, data="cifar10", images=50_000, epochs=200, batch_size=128, patch=1,
                                   width=256, layers=8, kernel_size=9, weight_decay=0.05)  # fmt: skip
    return dataclasses.replace(
        settings, data="cifar10", images=50_000, epochs=600, batch_size=768, patch=4, width=192, heads=3, layers=12,
        feed_forward=768, lr=5e-4, weight_decay=0.05,
    )  # fmt: skip


IMAGES = ("baseline", "pam-matmul", "pam-network", "pam-full", "pam-exact-backward", "adder")
CONVOLUTIONS = ("conv-baseline", "conv-pam-full")
STUDY = Study(
    paper=Paper(
        "Multiplication-Free Transformer Training via Piecewise Affine Operations", "Kosson & Jaggi", 2023,
        "2305.17190",
    ),
    trial=trial,
    arms={
        "baseline": Settings(),
        "pam-matmul": Settings(products="matmul"),
        "pam-network": Settings(products="network"),
        "pam-full": Settings(products="full"),
        "pam-exact-backward": Settings(products="network", approximate_backward=False),
        "adder": Settings(products="adder", lr=2e-2),
        "conv-baseline": Settings("convolution", epochs=3, batch_size=60, lr=2e-2),
        "conv-pam-full": Settings("convolution", "full", epochs=3, batch_size=60, lr=2e-2),
        "text-baseline": Settings(task="text", lr=1e-2),
        "text-pam-full": Settings(task="text", products="full", lr=1e-2),
    },
    scales={
        "smoke": {"images": 60, "epochs": 2, "batch_size": 20, "steps": 4, "sequences": 2, "context": 8, "patch": 4,
                  "width": 16, "layers": 1},
        "small": {},
        "paper": paper_scale,
    },
    claims=[
        Claim("a transformer with piecewise affine matrix products keeps its accuracy", "matrix products",
              difference("accuracy", "baseline", "pam-matmul") < 0.015),
        Claim("one trained without any multiplication loses little", "all operations",
              difference("accuracy", "baseline", "pam-full") < 0.03),
        Claim("no multiplication is left in forward pass, backward pass and optimizer", "all operations",
              value("multiplications", "pam-full") < 1),
        Claim("nor does a language model lose much", "all operations",
              difference("validation_loss", "text-pam-full", "text-baseline") < 0.08),
        Claim("piecewise affine products do better than adder layers", "comparison",
              difference("accuracy", "pam-matmul", "adder") > 0.02),
    ],
    figures=[
        Curve("The same training curve at every level", arms=IMAGES, x="epoch", y="accuracy"),
        Curve("And in a convolutional network", arms=CONVOLUTIONS, x="epoch", y="accuracy"),
        Curve("And in a language model (loss per character)", x="step", y="text_loss"),
        Bars("Multiplications left in one training step", metric="multiplications", arms=(*IMAGES, *CONVOLUTIONS)),
        Heatmap(
            "The product falls short by up to a ninth, most at 1.5 x 1.5", arms=("pam-matmul",), x="a", y="b",
            value="ratio",
        ),
    ],
    seeds=(3, 4),
)  # fmt: skip
