"""Blocks that each learn from a cross-entropy of their own match backpropagation and need less memory.

The paper (Gong et al., 2025) gives every layer a small matrix that maps its activation to class scores and trains the
two with the labels; nothing flows back between layers. It reports 98.74 against 98.69 % for backpropagation on MNIST
and 90.52 against 90.27 % on Fashion-MNIST with fully connected networks, 93.98 against 92.63 % on Fashion-MNIST with
convolutional ones, and a memory that is lower and more even over time. An independent evaluation with both methods
tuned (arXiv 2511.01061) finds gains of a tenth to one point.

Small: 784-500-500-10 on 12,000 training and 5,000 test images of MNIST and of Fashion-MNIST, batches of 128, Adam at
a rate that falls linearly to 0, 5 epochs; the same with 8 hidden layers of 200; a network of three convolutions (16,
32, 64) on 3,000 training and 2,000 test images of Fashion-MNIST, 3 epochs. Arms share images, their order and the
model's initial weights. Where the rate starts: the best of 3e-4, 1e-3, 3e-3 and 1e-2 at a constant rate for each arm on
2,000 held-out training images of seed 100, then, for the fully connected arms of backpropagation, Mono-Forward and DFA,
the better of 1e-3 and 3e-3 falling; seed 100 is run for nothing else. (Fashion-MNIST takes over MNIST's; both
convolutional networks want the largest.)

``accuracy`` is that of the last block, ``accuracy_sum`` that of the scores summed over blocks (which of the two the
paper's tables show is not stated); for Forward-Forward they are the readout's and the goodness's. Memory is counted in
bytes of tensors alive during one training step of 5 hidden layers of 500 at a batch of 2,000, gradients and temporaries
included.

Paper: all images, 30 epochs, layers of 1,000, convolutions of 64, 128, 256 and 512 channels, memory at a batch of
30,000; ``--set data=cifar10 --set width=2000 --set depth=3`` gives its network for CIFAR-10.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import Arrays, Batches, load
from neurarium.lab import Bars, Claim, Curve, Metrics, Paper, Run, Scatter, Study, all_of, difference, ratio, value
from neurarium.learning import Backprop, DirectFeedbackAlignment, ForwardForward, LearningRule, MonoForward, Shallow
from neurarium.models import plain_mlp
from neurarium.training import accuracy, evaluate, fit, live_bytes

RULES: dict[str, type[LearningRule]] = {
    "backprop": Backprop,
    "mono-forward": MonoForward,
    "forward-forward": ForwardForward,
    "dfa": DirectFeedbackAlignment,
    "last-layer-only": Shallow,
}


@dataclass(frozen=True)
class Settings:
    """An arm: the rule, the data, the network and its training."""

    rule: Literal["backprop", "mono-forward", "forward-forward", "dfa", "last-layer-only"] = "backprop"
    data: str = "mnist-small"
    train: int = 12_000
    test: int = 5_000
    width: int = 500
    depth: int = 2
    channels: tuple[int, ...] = ()
    epochs: int = 5
    batch_size: int = 128
    lr: float = 3e-3  # where it starts
    memory_width: int = 500
    memory_batch: int = 2_000


def trial(settings: Settings, run: Run) -> Metrics:
    """Train with one rule; accuracy, and where measured the bytes that a step takes."""
    split = load(settings.data)
    few = replace(split, train=split.train.subset(settings.train, seed=run.seed), test=split.test[: settings.test])
    split = few.scaled().to(run.device)
    train, test = split.train, split.test
    if settings.channels:
        model = convolutional(settings.channels, train.x.shape[1:], len(split.classes))
    else:
        inputs = train.x[0].numel()
        mlp = plain_mlp(inputs, len(split.classes), width=settings.width, depth=settings.depth)
        model = nn.Sequential(nn.Flatten(), *mlp)
    rule = RULES[settings.rule](model, cross_entropy).to(run.device)
    optimizer = torch.optim.Adam(rule.parameters(), settings.lr)
    batches = Batches(train, settings.batch_size, shuffle=True, seed=run.seed)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, settings.epochs * len(batches))
    seconds = reached = 0.0
    for epoch in run.track(range(1, settings.epochs + 1), "epochs"):
        start = time.perf_counter()
        loss = fit(rule, batches, optimizer, callbacks=[lambda step, loss: falling.step()])[0]
        seconds += time.perf_counter() - start
        reached = evaluate(last(rule), Batches(test, 1000))
        run.record(epoch=epoch, loss=loss, test_accuracy=reached)
    by_layer, together = scores(rule, test)
    for layer, share in enumerate(by_layer, start=1):
        run.record(layer=layer, layer_accuracy=share)
    return {
        "accuracy": reached,
        "accuracy_sum": together if by_layer else reached,
        "fall_with_depth": max(by_layer) - by_layer[-1] if by_layer else 0.0,
        "training_seconds": seconds,
        **(memory(settings, run) if settings.memory_batch else {}),
    }


def last(rule: LearningRule) -> LearningRule:
    """The rule set to predict with its last block in one pass."""
    if isinstance(rule, ForwardForward):
        rule.prediction = "readout"
    return rule


@torch.no_grad()
def scores(rule: LearningRule, test: Arrays) -> tuple[list[float], float]:
    """Accuracy of every block's own scores and of their sum; empty for a rule that has none."""
    if not isinstance(rule, (MonoForward, ForwardForward)):
        return [], 0.0
    parts = [rule.goodness(x) for x, _ in Batches(test, 1000)]
    blocks = [torch.cat(block) for block in zip(*parts, strict=True)]
    return [float(accuracy(g, test.y)) for g in blocks], float(accuracy(torch.stack(blocks).sum(0), test.y))


def memory(settings: Settings, run: Run) -> Metrics:
    """Bytes alive during one training step of a network with 5 hidden layers; depends on the rule alone."""
    model = plain_mlp(784, 10, width=settings.memory_width, depth=5)
    rule = RULES[settings.rule](model, cross_entropy).to(run.device)
    x = torch.randn(settings.memory_batch, 784, device=run.device)
    y = torch.randint(10, (settings.memory_batch,), device=run.device)
    rule.assign_credit(x, y)  # so that gradients are there already
    history = np.array(live_bytes(lambda: rule.assign_credit(x, y)))
    for share, amount in zip(np.linspace(0, 1, len(history)), history, strict=True):
        run.record(share_of_step=round(float(share), 4), live_mib=amount / 2**20)
    return {"peak_mib": history.max() / 2**20, "peak_over_mean": float(history.max() / history.mean())}


def convolutional(channels: Sequence[int], shape: Sequence[int], classes: int) -> nn.Sequential:
    """3 x 3 convolutions with ReLU and average pooling, and a linear readout."""
    stem = [nn.Unflatten(1, (1, shape[0]))] if len(shape) == 2 else []
    side, before = shape[-1], 1 if len(shape) == 2 else shape[0]
    body: list[nn.Module] = []
    for a, b in itertools.pairwise((before, *channels)):
        body += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)]
        side //= 2
    return nn.Sequential(*stem, *body, nn.Flatten(), nn.Linear(channels[-1] * side**2, classes))


DEEP = Settings(depth=8, width=200, memory_batch=0)
FASHION = Settings(data="fashion-mnist", memory_batch=0)
CNN = Settings(data="fashion-mnist", channels=(16, 32, 64), train=3_000, test=2_000, epochs=3, lr=1e-2, memory_batch=0)


def smoke(settings: Settings) -> Settings:
    """A small network on a few images."""
    tiny = replace(settings, data="mnist-small", train=300, test=200, epochs=1, width=30, batch_size=32)
    return replace(
        tiny, channels=settings.channels and (2, 4), memory_width=20, memory_batch=min(settings.memory_batch, 50)
    )


def paper(settings: Settings) -> Settings:
    """All images, wider networks, 30 passes."""
    full = replace(settings, train=60_000, test=10_000, epochs=30)
    full = replace(full, data="mnist" if settings.data == "mnist-small" else settings.data)
    if settings.memory_batch:
        full = replace(full, memory_width=2000, memory_batch=30_000)
    return replace(full, channels=(64, 128, 256, 512)) if settings.channels else replace(full, width=1000)


STUDY = Study(
    paper=Paper(
        "Mono-Forward: Backpropagation-Free Algorithm for Efficient Neural Network Training Harnessing Local Errors",
        "Gong et al.", 2025, "2501.09238",
    ),
    trial=trial,
    arms={
        "backprop": Settings(),
        "mono-forward": Settings("mono-forward"),
        "forward-forward": Settings("forward-forward"),
        "dfa": Settings("dfa"),
        "last-layer-only": Settings("last-layer-only", lr=1e-2),
        "fashion/backprop": FASHION,
        "fashion/mono-forward": replace(FASHION, rule="mono-forward"),
        "cnn/backprop": CNN,
        "cnn/mono-forward": replace(CNN, rule="mono-forward"),
        "deep/backprop": DEEP,
        "deep/mono-forward": replace(DEEP, rule="mono-forward"),
    },
    scales={"smoke": smoke, "small": {}, "paper": paper},
    claims=[
        Claim(
            "Mono-Forward matches backpropagation on MNIST and on Fashion-MNIST",
            "Table 1: 98.74 against 98.69 %, 90.52 against 90.27 %",
            all_of(
                difference("accuracy", "mono-forward", "backprop") > -0.01,
                difference("accuracy", "fashion/mono-forward", "fashion/backprop") > -0.01,
            ),
        ),
        Claim(
            "Mono-Forward is better than Forward-Forward", "abstract",
            all_of(
                difference("accuracy", "mono-forward", "forward-forward") > 0.01,
                value("accuracy", "mono-forward") - value("accuracy_sum", "forward-forward") > 0.01,
            ),
        ),
        Claim(
            "its hidden layers learn: random features with a trained readout are worse", "section 3",
            difference("accuracy", "mono-forward", "last-layer-only") > 0.02,
        ),
        Claim(
            "a training step of 5 hidden layers needs at most 0.6 of the memory", "memory figure",
            ratio("peak_mib", "mono-forward", "backprop") < 0.6,
        ),
        Claim(
            "memory is more even over the step", "memory figure",
            difference("peak_over_mean", "mono-forward", "backprop") < 0.0,
        ),
        Claim(
            "the second hidden layer is no worse than the first", "section 3",
            all_of(
                value("fall_with_depth", "mono-forward") < 0.01, value("fall_with_depth", "fashion/mono-forward") < 0.01
            ),
        ),
        Claim(
            "of eight hidden layers the last is no worse than the best below it", "section 3",
            value("fall_with_depth", "deep/mono-forward") < 0.01,
        ),
    ],
    figures=[
        Bars("Test accuracy of the last block", metric="accuracy"),
        Curve(
            "Each block is trained as if the network ended there: what depth buys", x="layer", y="layer_accuracy",
            arms=("mono-forward", "forward-forward", "fashion/mono-forward", "cnn/mono-forward", "deep/mono-forward"),
        ),
        Curve(
            "Backpropagation piles up activations, Mono-Forward lets them go", x="share_of_step", y="live_mib",
            arms=("backprop", "mono-forward"), note="One step of 5 hidden layers, operation by operation.",
        ),
        Curve(
            "Accuracy on MNIST by epoch", x="epoch", y="test_accuracy",
            arms=("backprop", "mono-forward", "forward-forward", "dfa", "last-layer-only"),
        ),
        Scatter(
            "Memory of a step against accuracy", x="peak_mib", y="accuracy",
            arms=("backprop", "mono-forward", "forward-forward", "dfa", "last-layer-only"),
        ),
    ],
    seeds=(3, 5),
)  # fmt: skip
