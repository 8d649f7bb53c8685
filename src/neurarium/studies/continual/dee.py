"""An ensemble of linear experts behind a differentiable gate learns classes one by one, in one pass, without replay.

The paper (Wójcik et al., 2022) puts a bank of linear experts on a frozen encoder. Each owns a key; a soft,
differentiable choice of the nearest keys decides who votes, and a batch raises the true class's score only. With
classes one at a time and every example seen once it reports the best results among methods without a memory on MNIST
and CIFAR, above the same ensemble with a hard gate (E&E), most of all with few experts, and better with more experts.

Small: the ten digits in a drawn order, 600 images each in batches of 10, one pass, one head, no task given; tests on
3,000 images of all classes. The encoder (three convolutions) is trained on 4,000 printed letters for two epochs, per
seed, sees no digit, and is frozen; a random projection makes 512 tanh features of it, as many as the paper's encoder of
Omniglot gives. (Four encoders were compared on seed 100; this one was best for ``nmc`` and for the ensembles.) The step
of the experts is such that a class gains 0.1 in all, and that of the keys such that they move 0.5 in all, as in the
paper's longer streams. ``tanh-linear`` is one expert, ``softmax-linear`` the usual linear head with Adam, both on the
same features; the ``mlp`` arms are the paper's references, an MLP on pixels with 512 hidden units and Adam at 5e-4,
with the strengths it names (EWC 1e4, learning without forgetting 0.15 at temperature 1.5). ``nmc``, means of the same
features, is our control. Nothing else was tuned. Paper: all of MNIST, pre-training on Fashion-MNIST, longer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from neurarium.continual import (
    EWC,
    DifferentiableEnsemble,
    Finetune,
    LearningWithoutForgetting,
    NearestMeanClassifier,
    Strategy,
    learn_stream,
)
from neurarium.data import Split, load, printed_letters, split_stream
from neurarium.lab import Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Scatter, Study, difference
from neurarium.models import FrozenEncoder
from neurarium.studies.continual._frozen import digit_images, pre_train, small_encoder

Method = Literal["dee", "softmax-linear", "nmc", "naive-mlp", "ewc-mlp", "lwf-mlp"]


@dataclass(frozen=True)
class Settings:
    """What an arm does and with which numbers."""

    method: Method = "dee"
    gate: Literal["soft", "hard", "all"] = "soft"
    experts: int = 16
    k: int = 4
    train_keys: bool = True
    data: str = "mnist-small"
    per_class: int = 600
    test: int = 3_000
    batch_size: int = 10
    letters: int = 4_000  # images to pre-train on
    pre_training: Literal["letters", "fashion-mnist"] = "letters"
    pre_training_epochs: int = 2
    features: int = 512
    gain: float = 0.1  # what a class's weights move in all
    key_travel: float = 0.5  # what keys move in all


def trial(settings: Settings, run: Run) -> Metrics:
    """Ten classes one after another, each example once."""
    images = digit_images(settings.data, 10 * settings.per_class, settings.test, run.seed).to(run.device)
    on_pixels = settings.method.endswith("mlp")
    inputs = images.flat() if on_pixels else FrozenEncoder(encoder(settings, run).to(run.device)).encode(images)
    torch.manual_seed(run.seed)
    strategy = build(settings, inputs).to(run.device)
    lr = 5e-4 if on_pixels else 1e-3

    def after_task(task: int, row: list[float]) -> None:
        run.record(classes=task + 1, seen_accuracy=sum(row[: task + 1]) / (task + 1))

    matrix = learn_stream(
        strategy, split_stream(inputs, 1, order_seed=run.seed), optimizer=lambda p: adam(p, lr),
        batch_size=settings.batch_size, seed=run.seed, after_task=after_task,
    )  # fmt: skip
    metrics = {"accuracy": matrix.average_accuracy, "forgetting": matrix.forgetting}
    if isinstance(strategy, DifferentiableEnsemble) and settings.gate != "all":
        metrics |= {"experts_used": strategy.experts_used(), "experts": float(settings.experts)}
        for c, shares in enumerate(strategy.usage().tolist()):
            for expert, share in enumerate(shares):
                run.record(expert=expert, digit=c, share=share)
    return metrics


def adam(parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """Of the arms that are trained by gradients."""
    return torch.optim.Adam(parameters, lr)


def encoder(settings: Settings, run: Run) -> nn.Module:
    """Convolutions trained to tell other images than digits apart, and random tanh features of what they see."""
    body = small_encoder()
    letters = settings.pre_training == "letters"
    split = printed_letters(settings.letters, 0, seed=run.seed) if letters else load("fashion-mnist")
    pre_train(body, split, settings.pre_training_epochs, run)
    projection = nn.Linear(1024, settings.features, bias=False)
    nn.init.normal_(projection.weight, std=2 / 1024**0.5)
    return nn.Sequential(*body, projection, nn.Tanh())


def build(settings: Settings, inputs: Split) -> Strategy:
    """The arm's learner on features (or, for the MLP arms, pixels)."""
    size = inputs.train.x.shape[1]
    if settings.method == "dee":
        steps = -(-settings.per_class // settings.batch_size)
        return DifferentiableEnsemble(
            num_experts=settings.experts, k=settings.k, gate=settings.gate, lr=settings.gain / steps,
            key_lr=settings.key_travel / (10 * steps) if settings.train_keys else 0.0,
        )  # fmt: skip
    if settings.method == "nmc":
        return NearestMeanClassifier()
    if settings.method == "softmax-linear":
        return Finetune(nn.Linear(size, 10))
    model = nn.Sequential(nn.Linear(size, 512), nn.ReLU(), nn.Linear(512, 10))
    match settings.method:
        case "naive-mlp":
            return Finetune(model)
        case "ewc-mlp":
            return EWC(model, strength=1e4, implicit=True)
        case "lwf-mlp":
            return LearningWithoutForgetting(model, strength=0.15, temperature=1.5)


ENSEMBLES = ("dee-16", "ee-16", "dee-64", "ee-64")
STUDY = Study(
    paper=Paper(
        "Neural Architecture for Online Ensemble Continual Learning", "Wójcik et al.", 2022, "2211.14963"
    ),
    trial=trial,
    arms={
        "dee-16": Settings(),
        "ee-16": Settings(gate="hard"),
        "dee-64": Settings(experts=64, k=8),
        "ee-64": Settings(experts=64, k=8, gate="hard"),
        "dee-16-fixed-keys": Settings(train_keys=False),
        "tanh-linear": Settings(experts=1, k=1, gate="all"),
        "softmax-linear": Settings(method="softmax-linear"),
        "naive-mlp": Settings(method="naive-mlp", batch_size=32),
        "ewc-mlp": Settings(method="ewc-mlp", batch_size=32),
        "lwf-mlp": Settings(method="lwf-mlp", batch_size=32),
        "nmc": Settings(method="nmc"),
    },
    scales={
        "smoke": {"per_class": 20, "test": 100, "letters": 60, "pre_training_epochs": 1},
        "small": {},
        "paper": {
            "data": "mnist", "per_class": 6_000, "test": 10_000, "pre_training": "fashion-mnist",
            "pre_training_epochs": 20,
        },
    },
    claims=[
        Claim(
            "the ensemble keeps classes that plain training forgets", "claim 1",
            difference("accuracy", "dee-16", "naive-mlp") > 0.30,
        ),
        Claim(
            "the ensemble is far above elastic weight consolidation", "claim 1",
            difference("accuracy", "dee-16", "ewc-mlp") > 0.30,
        ),
        Claim(
            "several gated experts beat one linear classifier", "claim 1",
            difference("accuracy", "dee-16", "tanh-linear") > 0.02,
        ),
        Claim("more experts are better", "claim 3", difference("accuracy", "dee-64", "dee-16") > 0.01),
        Claim(
            "with few experts the differentiable gate beats the hard one", "claim 2",
            difference("accuracy", "dee-16", "ee-16") > 0.005,
        ),
    ],
    figures=[
        Curve(
            "Accuracy on the classes seen so far, as classes arrive",
            arms=("dee-16", "ee-16", "dee-64", "tanh-linear", "softmax-linear", "ewc-mlp", "nmc"),
            x="classes", y="seen_accuracy",
        ),
        Bars("Accuracy on all ten classes at the end", metric="accuracy"),
        Scatter("Accuracy against the number of experts", arms=ENSEMBLES, x="experts", y="accuracy"),
        Heatmap(
            "Which expert (across) works for which digit (up)", arms=("dee-16", "ee-16"), x="expert", y="digit",
            value="share",
        ),
    ],
    seeds=(3, 9),
)  # fmt: skip
