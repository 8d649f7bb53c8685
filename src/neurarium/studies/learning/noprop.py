"""Blocks that learn alone to denoise the label match backpropagation through the chain of them.

The paper (Li, Teh and Pascanu, 2025) noises the label by a fixed diffusion and trains every block alone to recover it
from the noised label and the input. It reports 99.54 % on MNIST with discrete steps (backpropagation through the same
chain 99.46, Forward-Forward 98.63), 80.54 against 79.92 % on CIFAR-10, 46.06 against 47.80 % on CIFAR-100, and about
half to three quarters of the memory.

Small: 3,000 training and 2,000 test images of MNIST, six blocks of two strided convolutions (8 and 16 channels) and
fully connected layers of 64, batches of 128, AdamW, 4 epochs, every block once per batch; continuous time and flow
matching have one block and are given 24 epochs, so that all arms make as many block updates. ``bp-chain`` is
backpropagation through the six one-hot blocks. Forward-Forward has no form for such blocks: it trains 784-500-500-10
for 10 epochs. Arms share images, and those with equal blocks their weights and batches.

Each arm has the best of nine settings at this size on 1,000 held-out training images, the mean of seeds 100 and 101:
rates of 1e-3, 3e-3, 6e-3 and 1e-2, each with ᾱ clipped at 1e-4 and at 1e-2 from 0 and 1 (continuous time: log SNR
within 7 and 4), and the best rate with 5e-2 (2); eight rates from 3e-4 to 2e-2 where there is no schedule.

``accuracy`` is that of the mean probability over five noise samples. "Best noprop-dt" is the embedding that is best on
held-out training images of the seed. After the first block z itself is still noise and says hardly more than chance; so
``accuracy_first_block`` and ``accuracy_last_block`` are those of the blocks' own estimates.

Paper: all images, ten blocks of three convolutions (32, 64, 128) with pooling and dropout, 100 epochs;
``--set data=cifar10`` gives its second set.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, normalize

from neurarium.data import Arrays, Batches, load
from neurarium.lab import Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Study, difference, ratio, value
from neurarium.lab.claims import Quantity
from neurarium.layers import CosineSchedule, DiffusionSchedule, LearnedSchedule
from neurarium.learning import Backprop, ForwardForward, LearningRule, NoProp, class_prototypes
from neurarium.models import DenoisingBlock, plain_mlp
from neurarium.training import accuracy, evaluate, fit, saved_bytes

DISCRETE = ("noprop-dt-onehot", "noprop-dt-20", "noprop-dt-prototype")
CHAINS = (*DISCRETE, "noprop-fm", "noprop-ct", "bp-chain")


@dataclass(frozen=True)
class Settings:
    """An arm: the method and its variant, the data, the blocks and their training."""

    method: Literal["noprop", "bp-chain", "forward-forward"] = "noprop"
    variant: Literal["discrete", "continuous", "flow"] = "discrete"
    embedding: Literal["one-hot", "learned", "prototype"] = "one-hot"
    data: str = "mnist-small"
    train: int = 3_000
    validation: int = 1_000
    test: int = 2_000
    steps: int = 6
    channels: tuple[int, ...] = (8, 16)
    stride: int = 2
    width: int = 64
    dropout: float = 0.0
    clip: float = 1e-4
    log_snr: float = 7.0
    euler_steps: int = 10
    batch_size: int = 128
    epochs: int = 4
    lr: float = 3e-3


def trial(settings: Settings, run: Run) -> Metrics:
    """Train one arm; accuracy with and without noise, and what each block adds."""
    split = load(settings.data)
    shuffled = split.train.subset(settings.train + settings.validation, seed=run.seed)
    split = replace(split, train=shuffled, test=split.test[: settings.test]).scaled().to(run.device)
    shape = as_images if settings.method != "forward-forward" else as_vectors
    everything, test = shape(split.train), shape(split.test)
    train, validation = everything[: settings.train], everything[settings.train :]
    torch.manual_seed(run.seed)
    model = build(settings, train, len(split.classes)).to(run.device)
    rule = Backprop(model, cross_entropy) if settings.method == "bp-chain" else model
    optimizer = torch.optim.AdamW(rule.parameters(), settings.lr, weight_decay=1e-3)
    batches = Batches(train, settings.batch_size, shuffle=True, drop_last=True, seed=run.seed)
    # One block for all times is given as many block updates as the T blocks have together.
    passes = 1 if settings.variant == "discrete" else settings.steps
    started = time.perf_counter()
    for epoch in run.track(range(1, settings.epochs + 1), "epochs"):
        run.record(epoch=epoch, loss=sum(fit(rule, batches, optimizer, epochs=passes)) / passes)
    metrics = {"training_seconds": time.perf_counter() - started}
    for name, part in (("validation_", validation), ("", test), ("train_", train[:1_000])):
        metrics[f"{name}accuracy"] = evaluate(model, Batches(part, 500))
    if isinstance(model, NoProp):
        metrics |= look_into(model, settings, run, batches, test)
    return metrics


def look_into(chain: NoProp, settings: Settings, run: Run, batches: Batches, test: Arrays) -> Metrics:
    """What only a chain has: accuracy with noise and by block, memory of an update, prototypes."""
    x, y = next(iter(batches))
    if settings.method == "bp-chain":
        kept = saved_bytes(lambda: cross_entropy(chain(x), y))
    else:  # one block at a time
        steps = range(1, settings.steps + 1) if settings.variant == "discrete" else [None]
        kept = max(saved_bytes(partial(chain.block_loss, t, x, y)) for t in steps)
    chain.eval()
    with torch.no_grad():
        by_block = follow(chain, test, run)
        sampled = [accuracy(chain.log_probs(x, 5), y) * len(y) for x, y in Batches(test, 500)]
    if settings.embedding == "prototype":
        record_prototypes(chain.embedding.detach(), test.x.shape[-2:], run)
    return {
        "accuracy": float(sum(sampled)) / len(test),
        "accuracy_without_noise": evaluate(chain, Batches(test, 500)),
        "accuracy_first_block": by_block[0],
        "accuracy_last_block": by_block[-1],
        "saved_mib": kept / 2**20,
    }


def build(settings: Settings, train: Arrays, classes: int) -> LearningRule:
    """T blocks (or one, timed) on images; for Forward-Forward 784-500-500-10, the label on the dark border."""
    shape = train.x.shape[1:]
    if settings.method == "forward-forward":
        return ForwardForward(plain_mlp(shape[0], classes, width=500, depth=2), cross_entropy)
    discrete = settings.variant == "discrete"
    embedding: Literal["one-hot"] | int | Tensor = "one-hot" if settings.embedding == "one-hot" else 20
    if settings.embedding == "prototype":
        embedding = class_prototypes(train.x, train.y, classes)
    schedule: DiffusionSchedule | LearnedSchedule | None = None
    if settings.variant == "continuous":
        schedule = LearnedSchedule((-settings.log_snr, settings.log_snr))
    elif discrete:
        schedule = CosineSchedule(settings.steps, settings.clip)

    def make_block(step: int, embed_dim: int) -> nn.Module:
        return DenoisingBlock(
            (shape[0], shape[1], shape[2]), embed_dim, embed_dim if settings.variant == "flow" else classes,
            channels=settings.channels, width=settings.width, dropout=settings.dropout, stride=settings.stride,
            timed=not discrete,
        )  # fmt: skip

    return NoProp(
        make_block, num_classes=classes, variant=settings.variant,
        steps=settings.steps if discrete else settings.euler_steps, embedding=embedding, schedule=schedule,
    )  # fmt: skip


def as_images(part: Arrays) -> Arrays:
    """[n, channels, height, width]."""
    return part if part.x.dim() == 4 else Arrays(part.x.unsqueeze(1), part.y)


def as_vectors(part: Arrays) -> Arrays:
    """[n, features]."""
    return Arrays(part.x.flatten(1), part.y)


def follow(chain: NoProp, test: Arrays, run: Run) -> list[float]:
    """Accuracy of the blocks' own estimates along one noisy chain; records them, and where z is on its way."""
    x, rows = test.x, torch.arange(len(test))
    path = chain.trajectory(x)
    directions = normalize(chain.embedding, dim=1)
    found = []
    for step, z in enumerate(path):
        share = step / (len(path) - 1)
        along = z @ directions.T
        run.record(share_of_path=share, along=float(along[rows, test.y].mean()), which="true class")
        along[rows, test.y] = -torch.inf
        run.record(share_of_path=share, along=float(along.max(1).values.mean()), which="best other class")
        run.record(share_of_path=share, accuracy=float(accuracy(chain.read_out(z), test.y)), read_from="z")
        if step + 1 < len(path):
            estimate = chain.denoise(step + 1 if chain.variant == "discrete" else z.new_full((len(z),), share), z, x)
            clean = z + (1 - share) * estimate if chain.variant == "flow" else estimate
            found.append(float(accuracy(chain.read_out(clean), test.y)))
            run.record(share_of_path=share, accuracy=found[-1], read_from="the next block's estimate")
    return found


def record_prototypes(embedding: Tensor, size: tuple[int, ...], run: Run) -> None:
    """The first five learned embeddings side by side, at half the resolution."""
    strip = avg_pool2d(embedding[:5].view(5, 1, *size[-2:]), 2).squeeze(1).permute(1, 0, 2).flatten(1)
    for row in range(len(strip)):
        for column in range(strip.shape[1]):
            run.record(column=column, row=len(strip) - row, brightness=float(strip[row, column]))


def best_discrete(text: str, of: Callable[[Mapping[str, float]], float]) -> Quantity:
    """Of the embedding that is best on the held-out training images, seed by seed."""

    def at(rows: Mapping[str, Mapping[str, float]]) -> float:
        return of(rows[max(DISCRETE, key=lambda arm: rows[arm]["validation_accuracy"])])

    return Quantity(f"{text}[best noprop-dt]", DISCRETE, at)


BEST = best_discrete("accuracy", lambda row: row["accuracy"])
CHAIN_GAIN = best_discrete(
    "accuracy, last block − first block", lambda row: row["accuracy_last_block"] - row["accuracy_first_block"]
)


def smoke(settings: Settings) -> Settings:
    """Two small blocks on a few images."""
    return replace(
        settings, train=300, validation=50, test=50, steps=2, euler_steps=4, channels=(4,), width=16, epochs=1
    )


def paper(settings: Settings) -> Settings:
    """All images, the paper's blocks, 100 passes."""
    everything = replace(settings, data="mnist", train=55_000, validation=5_000, test=10_000, steps=10, epochs=100)
    return replace(everything, lr=1e-3, euler_steps=40, channels=(32, 64, 128), stride=1, width=256, dropout=0.2)


STUDY = Study(
    paper=Paper(
        "NoProp: Training Neural Networks without Back-propagation or Forward-propagation",
        "Li, Teh and Pascanu", 2025, "2503.24322",
    ),
    trial=trial,
    arms={
        "noprop-dt-onehot": Settings(lr=1e-2, clip=1e-2),
        "noprop-dt-20": Settings(embedding="learned"),
        "noprop-dt-prototype": Settings(embedding="prototype"),
        "noprop-fm": Settings(variant="flow", lr=6e-3),
        "noprop-ct": Settings(variant="continuous", log_snr=2.0),
        "bp-chain": Settings(method="bp-chain", clip=5e-2),
        "forward-forward": Settings(method="forward-forward", epochs=10),
    },
    scales={"smoke": smoke, "small": {}, "paper": paper},
    seeds=(3, 5),
    claims=[
        Claim(
            "blocks trained alone match backpropagation through the chain", "Table 1: 99.54 against 99.46 % on MNIST",
            BEST - value("accuracy", "bp-chain") > -0.015,
        ),
        Claim(
            "NoProp is better than Forward-Forward", "Table 2: 99.54 against 98.63 % on MNIST",
            BEST - value("accuracy", "forward-forward") > 0.01,
        ),
        Claim(
            "a training step keeps a fraction of the activations", "memory table: 0.49 against 0.87 GB on MNIST",
            ratio("saved_mib", "noprop-dt-onehot", "bp-chain") < 0.35,
        ),
        Claim("the chain does not lose what its first block knows", "section 4", CHAIN_GAIN > -0.005),
        Claim(
            "discrete steps are no worse than continuous time", "Table 1",
            difference("accuracy", "noprop-dt-onehot", "noprop-ct") > -0.01,
        ),
    ],
    figures=[
        Bars("Test accuracy, mean probability of five noise samples", metric="accuracy"),
        Curve(
            "Where the chain learns the label: read from z, and from the next block's estimate", arms=CHAINS,
            x="share_of_path", y="accuracy", series="read_from",
        ),
        Curve(
            "z on its way from noise to the embedding of the true class", arms=CHAINS, x="share_of_path", y="along",
            series="which", note="Mean of z along the class embeddings.",
        ),
        Heatmap(
            "Learned prototypes of the digits 0 to 4", arms=("noprop-dt-prototype",), x="column", y="row",
            value="brightness",
        ),
        Bars("Activations kept for the backward pass of one update, MiB", metric="saved_mib", arms=CHAINS),
    ],
)  # fmt: skip
