"""On a frozen pre-trained encoder the mean feature of each class is a better memory than a head that is trained.

The paper (Janson et al., 2022) keeps one running mean per class of the features of a pre-trained transformer and
predicts the class of the nearest mean: 83.7 % on ten tasks of CIFAR-100 in its second version (88.5 % in the latest),
above replay with 50 images per class (82.5 %) and most methods of continual learning that start from the same network,
against 90.9 % for training on all tasks at once. Hence, it says, pre-training explains most of what those methods do.

Small: the encoder is a convolutional network (8, 32 and 64 channels) that we train on 8,000 drawn images of 52 printed
letters for 2 epochs, per seed, and freeze. Two real streams of 5 tasks with 2 new digits each: MNIST (600 training and
200 test images per class) and scikit-learn's digits (1,259 and 538 in all, 8 x 8, enlarged). A third has 4 tasks of 2
libraries that a documentation string is from (up to 100 and 40 per library), as hashed words and word pairs projected
to 384 features, which is no pre-training. All arms learn from equal features in the same order: linear heads by SGD
for 5 epochs per task (plain, EWC, learning without forgetting, replay of 20 items per class), a residual adapter
with a head, the same head on all tasks at once (``joint``), and closed-form classifiers (``nmc`` in two metrics,
streaming LDA, streaming ridge regression). ``nmc-random-encoder`` and
``nmc-pixels`` show what pre-training gives, on images. The paper's transformer and images are not at hand
without a network; the letters stand in for them, so the encoder is much weaker than the paper's.

Learning rates are the best of 3e-4, 1e-3, 3e-3 and 1e-2 for each trained arm, EWC's strength of 10, 100, 1e3 and 1e4,
that of learning without forgetting of 0.3, 1, 3 and 10, by accuracy on MNIST at seed 100, run for nothing else; and
again by accuracy on texts, with 3e-2 among the rates.

``accuracy`` is the mean over tasks after the last one, one head, no task given; ``old_class_drift`` the largest change
of the accuracy on the first task's test images among its own two classes. Paper: an encoder trained on Fashion-MNIST,
all of MNIST, and texts by a pre-trained sentence encoder (extra ``language``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from neurarium.continual import (
    EWC,
    AccuracyMatrix,
    Finetune,
    LearningWithoutForgetting,
    NearestMeanClassifier,
    Replay,
    Strategy,
    StreamingLDA,
    StreamingRidge,
    learn_stream,
)  # fmt: skip
from neurarium.data import Split, load, printed_letters, split_stream
from neurarium.lab import Bars, Claim, Curve, Metrics, Paper, Run, Scatter, Study, all_of, difference
from neurarium.models import FrozenEncoder
from neurarium.studies.continual._domains import texts
from neurarium.studies.continual._frozen import Adapter, Stopwatch, digit_images, pre_train, small_encoder

Method = Literal["nmc", "slda", "ridge", "sgd", "ewc", "lwf", "replay", "adapter", "joint"]
CLOSED_FORM = ("nmc", "slda", "ridge")


@dataclass(frozen=True)
class Settings:
    """What an arm does and with which numbers."""

    method: Method = "nmc"
    metric: Literal["euclidean", "cosine"] = "euclidean"
    encoder: Literal["pre-trained", "random", "pixels"] = "pre-trained"
    strength: float = 0.0  # of EWC or learning without forgetting
    lr: float = 0.0  # of what is trained
    text_strength: float = 0.0  # the same two on texts
    text_lr: float = 0.0
    streams: tuple[str, ...] = ("mnist-small", "digits", "texts")
    train: int = 6_000  # of MNIST; scikit-learn's digits come whole
    test: int = 2_000
    epochs: int = 5  # of what is trained
    batch_size: int = 64
    letters: int = 8_000  # images to pre-train on
    pre_training: Literal["letters", "fashion-mnist"] = "letters"
    pre_training_epochs: int = 2
    text_encoder: Literal["text-hash", "text-minilm"] = "text-hash"
    text_train: int = 100  # per class, as far as there are
    text_test: int = 40


def trial(settings: Settings, run: Run) -> Metrics:
    """All streams through the arm's encoder and method; texts where the arm is not about the encoder of images."""
    encoder = FrozenEncoder(encoder_for(settings, run).to(run.device))
    metrics: dict[str, float] = {}
    streams = [name for name in settings.streams if name != "texts" or settings.encoder == "pre-trained"]
    for number, name in run.track(list(enumerate(streams)), "streams"):
        start = time.perf_counter()
        if name == "texts":
            features = text_features(settings, run)
            chosen = replace(settings, lr=settings.text_lr, strength=settings.text_strength)
        else:
            features = encoder.encode(digit_images(name, settings.train, settings.test, run.seed).to(run.device))
            chosen = settings
        seconds = time.perf_counter() - start
        found = {**learn(chosen, run, features, record=number == 0), "encoder_seconds": seconds}
        metrics |= {key if number == 0 else f"{key}_{name}": result for key, result in found.items()}
    return metrics


def text_features(settings: Settings, run: Run) -> Split:
    """Documentation strings as vectors of length sqrt(features), so that the rates of what is trained fit them too."""
    split = texts(settings.text_train, settings.text_test, run.seed, settings.text_encoder).to(run.device)
    return split.map_inputs(lambda x: x * x.shape[1] ** 0.5)


def encoder_for(settings: Settings, run: Run) -> nn.Module:
    """Pixels, or a convolutional network as it starts or after the pre-training."""
    if settings.encoder == "pixels":
        return nn.Flatten()
    encoder = small_encoder()
    if settings.encoder == "pre-trained":
        letters = settings.pre_training == "letters"
        split = printed_letters(settings.letters, 0, seed=run.seed) if letters else load("fashion-mnist")
        pre_train(encoder, split, settings.pre_training_epochs, run)
    return encoder


def learn(settings: Settings, run: Run, features: Split, record: bool) -> dict[str, float]:
    """The stream, learned by the arm's method."""
    torch.manual_seed(run.seed)  # first weights and the memory's draws do not depend on the pre-training
    tasks = split_stream(features, 2)
    strategy = strategy_for(settings, features).to(run.device)
    clock = Stopwatch(strategy)
    first = tasks[0].test
    own: list[float] = []

    def after_task(task: int, row: list[float]) -> None:
        own.append(float((strategy.predict(first.x)[:, :2].argmax(1) == first.y).double().mean()))
        if record:
            run.record(classes=2 * (task + 1), seen_accuracy=sum(row[: task + 1]) / (task + 1))

    matrix = learn_tasks(settings, run, strategy, [features] if settings.method == "joint" else tasks, after_task)
    state = [t for t in strategy.state_dict().values() if isinstance(t, Tensor)]
    return {
        "accuracy": matrix.average_accuracy,
        "forgetting": matrix.forgetting,
        "old_class_drift": max(abs(accuracy - own[0]) for accuracy in own),
        "order_deviation": order_deviation(settings, run, features) if settings.method == "nmc" else 0.0,
        "train_seconds": clock.seconds,
        "state_kib": sum(t.numel() * t.element_size() for t in state) / 1024,
    }


def learn_tasks(
    settings: Settings,
    run: Run,
    strategy: Strategy,
    tasks: Sequence[Split],
    after_task: Callable[[int, list[float]], object] = lambda task, row: None,
) -> AccuracyMatrix:
    """One pass for classifiers in closed form, several for what is trained."""
    return learn_stream(
        strategy, tasks, epochs=1 if settings.method in CLOSED_FORM else settings.epochs,
        optimizer=lambda parameters: torch.optim.SGD(parameters, settings.lr, momentum=0.9),
        batch_size=settings.batch_size, seed=run.seed, after_task=after_task,
    )  # fmt: skip


def order_deviation(settings: Settings, run: Run, features: Split) -> float:
    """Deviation, over three orders of the classes, of the share of all test images that are right at the end."""
    shares = []
    for order in (None, 1, 2):
        strategy = strategy_for(settings, features).to(run.device)
        learn_tasks(settings, run, strategy, split_stream(features, 2, order_seed=order))
        shares.append((strategy.predict(features.test.x).argmax(1) == features.test.y).double().mean())
    return float(torch.stack(shares).std())


def strategy_for(settings: Settings, features: Split) -> Strategy:
    """The arm's method around its head, or its classifier in closed form."""
    size, classes = features.train.x.shape[1], len(features.classes)
    head = nn.Linear(size, classes)
    match settings.method:
        case "nmc":
            return NearestMeanClassifier(metric=settings.metric)
        case "slda":
            return StreamingLDA()
        case "ridge":
            return StreamingRidge()
        case "ewc":
            return EWC(head, strength=settings.strength, implicit=True)
        case "lwf":
            return LearningWithoutForgetting(head, strength=settings.strength)
        case "replay":
            return Replay(head, capacity=20 * classes)
        case "adapter":
            return Finetune(nn.Sequential(Adapter(size), head))
    return Finetune(head)


ARMS = {
    "nmc": Settings(),
    "nmc-cosine": Settings(metric="cosine"),
    "slda": Settings(method="slda"),
    "ridge": Settings(method="ridge"),
    "head-sgd": Settings(method="sgd", lr=3e-4, text_lr=3e-3),
    "head-ewc": Settings(method="ewc", lr=3e-4, strength=1e4, text_lr=3e-2, text_strength=1e3),
    "head-lwf": Settings(method="lwf", lr=3e-4, strength=3.0, text_lr=3e-3, text_strength=0.3),
    "replay-20": Settings(method="replay", lr=3e-3, text_lr=3e-3),
    "adapter": Settings(method="adapter", lr=3e-4, text_lr=3e-3),
    "joint": Settings(method="joint", lr=1e-2, text_lr=3e-2),
    "nmc-random-encoder": Settings(encoder="random"),
    "nmc-pixels": Settings(encoder="pixels"),
}
STREAMS = ("", "_digits", "_texts")  # endings of their metrics
TRAINED = ("head-sgd", "head-ewc", "head-lwf", "adapter")

STUDY = Study(
    paper=Paper(
        "A Simple Baseline that Questions the Use of Pretrained-Models in Continual Learning", "Janson et al.", 2022,
        arxiv="2210.04428",
    ),
    trial=trial,
    arms=ARMS,
    scales={
        "smoke": {
            "train": 300, "test": 200, "epochs": 1, "letters": 256, "pre_training_epochs": 1, "text_train": 20,
            "text_test": 5,
        },
        "small": {},
        "paper": {
            "streams": ("mnist", "digits", "texts"), "train": 60_000, "test": 10_000, "pre_training": "fashion-mnist",
            "pre_training_epochs": 10, "text_encoder": "text-minilm", "text_train": 300, "text_test": 60,
        },
    },
    claims=[
        Claim(
            "the nearest mean is better than heads and adapters trained task by task, on both streams of images",
            "Table 1",
            all_of(
                *(difference("accuracy", "nmc", arm) > 0.05 for arm in TRAINED),
                *(difference("accuracy_digits", "nmc", arm) > 0.05 for arm in TRAINED),
            ),
            published="83.7 % on ten tasks of CIFAR-100",
        ),
        Claim(
            "on texts too it is better than those", "abstract",
            all_of(*(difference("accuracy_texts", "nmc", arm) > 0.05 for arm in TRAINED)),
        ),
        Claim(
            "without a memory of examples it is about as good as replay", "Table 1",
            difference("accuracy", "nmc", "replay-20") > -0.05, published="83.7 against 82.5 %",
        ),
        Claim(
            "on texts too it is about as good as replay", "abstract",
            difference("accuracy_texts", "nmc", "replay-20") > -0.05,
        ),
        Claim(
            "it comes near to training on all tasks at once", "Table 1",
            difference("accuracy", "joint", "nmc") < 0.12, published="83.7 against 90.9 %",
        ),
        Claim(
            "on texts too it comes near to training on all tasks at once", "abstract",
            difference("accuracy_texts", "joint", "nmc") < 0.12,
        ),
        Claim(
            "what it owes to pre-training is large", "abstract",
            difference("accuracy", "nmc", "nmc-random-encoder") > 0.05,
        ),
    ],
    figures=[
        Curve(
            "Means do not forget: accuracy over the classes seen so far, MNIST", x="classes", y="seen_accuracy",
            arms=("nmc", "slda", "head-sgd", "head-ewc", "head-lwf", "replay-20", "adapter"),
        ),
        Bars("Accuracy after five tasks of MNIST", metric="accuracy"),
        Bars("And of scikit-learn's digits", metric="accuracy_digits"),
        Bars("After four tasks of texts", metric="accuracy_texts"),
        Scatter("Accuracy against seconds of learning", x="train_seconds", y="accuracy"),
        Scatter("Accuracy against what must be kept", x="state_kib", y="accuracy"),
    ],
    seeds=(3, 14),
)  # fmt: skip
