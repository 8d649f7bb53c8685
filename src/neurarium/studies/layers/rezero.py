"""Residual branches scaled by one scalar that starts at zero train at depths where other networks stand still.

The paper (Bachlechner et al., 2020) multiplies every residual branch by a learnable scalar alpha = 0. At the start each
block is the identity and every singular value of the input-output Jacobian is 1, whatever the depth. The paper finds
that 32-layer fully connected networks on CIFAR-10 converge 7 to 15 times faster than with other blocks and that 10,000
layers train; that a 12-layer transformer reaches 1.2 bits per byte of enwik8 56 % sooner than the post-norm one and
that 120 layers train. Its ResNets are left out here; `neurarium.layers.rezero_` converts them.

Small: 64 blocks of width 64 on MNIST images, 300 steps of Adam on batches of 64 (150 steps at 256 blocks); and a
24-layer transformer of width 64 that reads English (the data set descriptions that ship with scikit-learn; the last
tenth of each is held out), 200 steps of two windows of 64 bytes, without warm-up. Arms differ in the block alone:
equal seeds give equal weights, data and order of batches. The learning rate of each arm is the best of 3e-4, 1e-3 and
3e-3 on seed 100, outside the seeds that are run (where none learns, 1e-3). A loss that overflows ends the training of
its arm. ``steps_to_80`` is the first step at which the accuracy on the last ten batches reaches 80 %, the number of
steps if it never does.

Paper: 32 and 128 blocks of width 256 on CIFAR-10 with Adagrad 0.01; enwik8 (the file ``enwik8`` in a folder of
``$NEURARIUM_DATA``) with 12 layers of width 512 and context 512, Adam in place of LAMB. ``--set block=highway`` and,
for text, ``--set block=gpt2`` give two more baselines.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.data import Batches, load
from neurarium.lab import Claim, Curve, Heatmap, Metrics, Paper, RequestError, Run, Study, difference, ratio, value
from neurarium.layers import alphas
from neurarium.models import CausalTransformer, DeepMlp
from neurarium.probes import jacobian_spectrum
from neurarium.training import accuracy, evaluate

RECORDS = 20  # points along each curve
DEPTH_64 = ("plain", "residual", "post-norm", "pre-norm", "rezero")
DEPTH_256 = ("plain-256", "residual-256", "rezero-256")
TEXT = ("text-post-norm", "text-pre-norm", "text-rezero")


@dataclass(frozen=True)
class Settings:
    """An arm: the task, the kind of block, and how deep."""

    task: Literal["images", "text"] = "images"
    block: Literal["plain", "residual", "post-norm", "pre-norm", "highway", "gpt2", "rezero"] = "rezero"
    data: str = "mnist-small"
    depth: int = 64
    width: int = 64
    steps: int = 300
    batch_size: int = 64
    optimizer: Literal["adam", "adagrad"] = "adam"
    lr: float = 1e-3
    images: int = 10_000
    heads: int = 4
    feed_forward: int = 128
    context: int = 64


def trial(settings: Settings, run: Run) -> Metrics:
    """Train one deep network on its task."""
    return images(settings, run) if settings.task == "images" else text(settings, run)


def images(settings: Settings, run: Run) -> Metrics:
    """A deep fully connected network on flat images."""
    split = load(settings.data).scaled().flat().to(run.device)
    train = split.train.subset(min(settings.images, len(split.train)), seed=run.seed)
    model = DeepMlp(train.x.shape[1], len(split.classes), settings.width, settings.depth, settings.block)
    model.to(run.device)
    batches = Batches(train, settings.batch_size, shuffle=True, drop_last=True, seed=run.seed)
    endless = itertools.chain.from_iterable(itertools.repeat(batches))
    start = spectrum(model, split.test.x[:4], run, "start")
    hits = learn(model, itertools.islice(endless, settings.steps), settings, run)
    reached = [step for step in range(10, len(hits) + 1) if np.mean(hits[step - 10 : step]) >= 0.8]
    spectrum(model, split.test.x[:4], run, "end")
    return {
        "accuracy": evaluate(model, Batches(split.test, 1000)),
        "steps_to_80": float(reached[0] if reached else settings.steps),
        "mean_squared_singular_value": float(np.square(start).mean()),
        "spectrum_deviation": float(np.abs(start - 1).max()),
    }


def text(settings: Settings, run: Run) -> Metrics:
    """A causal transformer that predicts the next byte of a text."""
    train, held_out = prose(settings.data)
    model = CausalTransformer(
        256, settings.width, settings.heads, settings.depth, settings.feed_forward, settings.context, settings.block
    ).to(run.device)
    rng = run.rng()

    def windows(source: np.ndarray, starts: np.ndarray) -> tuple[Tensor, Tensor]:
        rows = torch.from_numpy(source[starts[:, None] + np.arange(settings.context + 1)].astype(np.int64))
        rows = rows.to(run.device)
        return rows[:, :-1], rows[:, 1:]

    def draw() -> tuple[Tensor, Tensor]:
        return windows(train, rng.integers(len(train) - settings.context, size=settings.batch_size))

    learn(model, (draw() for _ in range(settings.steps)), settings, run)
    # Whole windows side by side, at most 20,000 bytes of them.
    starts = np.arange(0, min(len(held_out), 20_000) - settings.context, settings.context)
    batches = [windows(held_out, part) for part in np.array_split(starts, max(1, len(starts) // 32))]
    nats = evaluate(model, batches, lambda logits, y: cross_entropy(logits.flatten(0, 1), y.flatten()))
    return {"bits_per_character": nats / math.log(2) if math.isfinite(nats) else 8.0}


def learn(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], settings: Settings, run: Run) -> list[float]:
    """Train on the batches; returns the accuracy on each before its step. Ends at a loss that is not finite."""
    kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {"adam": torch.optim.Adam, "adagrad": torch.optim.Adagrad}
    optimizer = kinds[settings.optimizer](model.parameters(), lr=settings.lr, fused=True)
    every = max(1, settings.steps // RECORDS)
    hits: list[float] = []
    losses: list[float] = []
    for step, (x, y) in enumerate(run.track(batches), start=1):
        logits = model(x)
        loss = cross_entropy(logits.flatten(0, -2), y.flatten())
        if not torch.isfinite(loss):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        hits.append(float(accuracy(logits.detach(), y)))
        losses.append(float(loss.detach()))
        if step % every == 0:
            run.record(step=step, loss=float(np.mean(losses[-every:])))
            for layer, alpha in enumerate(alphas(model).values(), start=1):
                if layer % max(1, settings.depth // 64) == 0:
                    run.record(step=step, layer=layer, alpha=alpha.item())
    return hits


def spectrum(model: DeepMlp, x: Tensor, run: Run, when: Literal["start", "end"]) -> np.ndarray:
    """Singular values of the Jacobian of the stack of blocks in float64, recorded largest first."""
    blocks = model.blocks.double()
    with torch.no_grad():
        inputs = model.inlet(x).double()
    values = np.full((len(x), inputs.shape[1]), np.nan)
    if torch.isfinite(blocks(inputs)).all():
        values = jacobian_spectrum(blocks, inputs).singular_values.cpu().numpy()
    blocks.float()
    for rank in np.linspace(0, values.shape[1] - 1, 32).astype(int):
        run.record(rank=rank + 1, singular_value=max(float(np.median(values[:, rank])), 1e-16), when=when)
    return values


def prose(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The bytes to train on and those held out: scikit-learn's data set descriptions, or a file such as enwik8.

    Raises:
        RequestError: no such file in the folders of ``$NEURARIUM_DATA``.
    """
    if name == "descriptions":
        folder = files("sklearn.datasets.descr")
        parts = [p.read_bytes() for p in sorted(folder.iterdir(), key=lambda p: p.name) if p.name.endswith(".rst")]
    else:
        folders = [Path(f) for f in os.environ.get("NEURARIUM_DATA", "").split(":") if f]
        found = next((f / name for f in folders if (f / name).is_file()), None)
        if found is None:
            raise RequestError(f"put the file {name!r} into a folder and name the folder in $NEURARIUM_DATA")
        parts = [found.read_bytes()]
    cut = [len(part) - len(part) // 10 for part in parts]
    pieces = [b"".join(p[:c] for p, c in zip(parts, cut)), b"".join(p[c:] for p, c in zip(parts, cut))]
    return np.frombuffer(pieces[0], np.uint8), np.frombuffer(pieces[1], np.uint8)


READING = Settings(task="text", data="descriptions", depth=24, steps=200, batch_size=2)


def smoke(settings: Settings) -> Settings:
    """A few steps of a shallower network."""
    return replace(settings, depth=settings.depth // 16 + 1, width=16, steps=12, images=300, batch_size=4)


def paper(settings: Settings) -> Settings:
    """The paper's networks and steps, on its data."""
    if settings.task == "text":
        enwik8 = replace(settings, data="enwik8", steps=10_000, batch_size=1080, context=512)
        return replace(enwik8, depth=12, width=512, heads=8, feed_forward=2048)
    cifar = replace(settings, data="cifar10", images=50_000, steps=8_000, batch_size=128)
    return replace(cifar, depth=settings.depth // 2, width=256, optimizer="adagrad", lr=0.01)


STUDY = Study(
    paper=Paper("ReZero is All You Need: Fast Convergence at Large Depth", "Bachlechner et al.", 2020, "2003.04887"),
    trial=trial,
    arms={
        "plain": Settings(block="plain", lr=3e-4),
        "residual": Settings(block="residual"),
        "post-norm": Settings(block="post-norm", lr=3e-4),
        "pre-norm": Settings(block="pre-norm"),
        "rezero": Settings(block="rezero"),
        "plain-256": Settings(block="plain", depth=256, steps=150),
        "residual-256": Settings(block="residual", depth=256, steps=150),
        "rezero-256": Settings(block="rezero", depth=256, steps=150),
        "text-post-norm": replace(READING, block="post-norm"),
        "text-pre-norm": replace(READING, block="pre-norm"),
        "text-rezero": replace(READING, block="rezero", lr=3e-3),
    },
    scales={"smoke": smoke, "small": {}, "paper": paper},
    claims=[
        Claim(
            "64 fully connected layers train with ReZero and not without a skip path",
            "section 4",
            difference("accuracy", "rezero", "plain") > 0.5,
        ),
        Claim(
            "ReZero converges many times faster than the residual network",
            "section 4",
            ratio("steps_to_80", "residual", "rezero") > 1.5,
            published="7 to 15 times",
        ),
        Claim(
            "depth does not stop ReZero: 256 layers train as well",
            "section 4",
            value("accuracy", "rezero-256") > 0.85,
            published="10,000 layers",
        ),
        Claim(
            "a deep transformer without warm-up learns with ReZero and not with post-norm",
            "abstract",
            difference("bits_per_character", "text-post-norm", "text-rezero") > 0.3,
        ),
        Claim(
            "ReZero gives up nothing to pre-norm",
            "section 5",
            difference("bits_per_character", "text-rezero", "text-pre-norm") < 0.05,
        ),
    ],
    figures=[
        Curve("Only ReZero and pre-norm train 64 layers", arms=DEPTH_64, x="step", y="loss"),
        Curve(
            "At 256 layers the residual sum overflows, the plain product vanishes", arms=DEPTH_256, x="step", y="loss"
        ),
        Curve(
            "24 transformer layers without warm-up: post-norm stays at letter frequencies",
            arms=TEXT,
            x="step",
            y="loss",
        ),
        Heatmap(
            "How alpha leaves zero, layer by layer",
            arms=("rezero", "rezero-256", "text-rezero"),
            x="step",
            y="layer",
            value="alpha",
        ),
        Curve(
            "The Jacobian's singular values: all 1 for ReZero at the start, many orders of magnitude apart elsewhere",
            arms=DEPTH_64 + DEPTH_256,
            x="rank",
            y="singular_value",
            series="when",
            log_y=True,
        ),
    ],
)
