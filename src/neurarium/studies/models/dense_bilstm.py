"""Narrow recurrent layers that read all layers below them train at depths where a plain stack does not.

Ding et al. stack bidirectional LSTMs of 13 units fifteen deep; each reads the words' vectors and the states of all
layers below, and a top layer of 100 units reads all of them. They report it ahead of one wide layer of equal size on
five sets of sentences, by one to three points, and better with depth up to 15 or 20 layers, where a plain stack gets
worse.

Small: TREC's questions (six classes), 1,500 of 5,452 to train and all 500 to test, word2vec vectors (fixed; words of
the training questions without one get random ones), 25 words at most, dropout .5, forget biases of 1, gradients clipped
at 5, Adam with batches of 50, 5 epochs; ``accuracy`` is the mean of the last three. Three arms of about equal size: one
layer of 80 units, six dense layers of 8 under a top of 32, six stacked layers of 32 under the same top. The rate of
5e-3 is a prototype's and was tuned for no arm.

Paper: (15, 13, 100) against one layer of 300 on the whole of TREC; ``--set data=mr --set fold=3`` for a fold of a set
without a split (mr, subj), ``--set data=sst2`` and ``sst5``, ``--set vectors=PATH`` for GloVe's 300 dimensions, ``--set
layers=5 --set hidden=40`` for other depths of the same size.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import (
    Arrays,
    Batches,
    TextSplit,
    Vocabulary,
    WordVectors,
    fold_text,
    load_text,
    load_word_vectors,
    with_unknown_words,
)  # fmt: skip
from neurarium.lab import Bars, Claim, Curve, Metrics, Paper, Run, Scatter, Study, difference
from neurarium.layers import DenseRecurrent
from neurarium.learning import Backprop
from neurarium.models import SentenceClassifier
from neurarium.probes import gradient_flow
from neurarium.training import evaluate, fit

FOLDED = ("mr", "subj", "cr", "mpqa")


@dataclass(frozen=True)
class Settings:
    """What the arms and scales change."""

    connection: Literal["dense", "stacked", "residual"] = "dense"
    layers: int = 6
    hidden: int = 8
    top: int = 32
    lr: float = 5e-3
    data: str = "trec"
    vectors: str = "google-news-26k"
    fold: int = 0
    trained: int = 1500
    words: int = 25
    batch: int = 50
    epochs: int = 5


def sentences(settings: Settings) -> TextSplit:
    """A known set, one fold of it, or, for plumbing, sentences whose class is their rarest word."""
    if settings.data == "toy":
        rows = [(f"what {'is the ' * (i % 4)}w{i % 3} of it", i % 3) for i in range(60)]
        return TextSplit(rows[:40], [], rows[40:], ("a", "b", "c"))
    split = load_text(settings.data)
    return fold_text(split, settings.fold) if settings.data in FOLDED else split


def encoded(settings: Settings, run: Run) -> tuple[Arrays, Arrays, WordVectors, int]:
    """Numbers of words with labels, for training and test, and the words' vectors."""
    split = sentences(settings)
    generator = torch.Generator().manual_seed(run.seed)
    order = torch.randperm(len(split.train), generator=generator)[: settings.trained].tolist()
    train = [(split.train[row][0].lower(), split.train[row][1]) for row in order]
    if settings.data == "toy":
        known = WordVectors(Vocabulary(["what"]), torch.ones(3, 20))
    else:
        known = load_word_vectors(settings.vectors)
    vectors = with_unknown_words(known, [text for text, _ in train], generator=generator)

    def arrays(rows: list[tuple[str, int]]) -> Arrays:
        ids, _ = vectors.vocabulary.encode([text.lower() for text, _ in rows], settings.words)
        return Arrays(ids, torch.tensor([label for _, label in rows]))

    return arrays(train), arrays(split.test), vectors, len(split.classes)


def build(settings: Settings, vectors: WordVectors, classes: int) -> SentenceClassifier:
    """The classifier of an arm; every cell starts by remembering."""
    width = vectors.vectors.shape[1]
    encoder = DenseRecurrent(
        width, settings.hidden, settings.layers, settings.top, connection=settings.connection
    )  # fmt: skip
    with torch.no_grad():
        for layer in encoder.layers:
            for name, bias in layer.named_parameters():
                if name.startswith("bias"):
                    bias.zero_()
                if name.startswith("bias_ih"):
                    bias[layer.hidden_size : 2 * layer.hidden_size] = 1.0
    return SentenceClassifier(vectors, encoder, classes)


def flow(model: SentenceClassifier, batch: Any, run: Run, when: str) -> float:
    """Gradients of the layers, recorded; how much smaller the first layer's are than the top's."""
    found = gradient_flow(model, batch, outputs=["embedding"])
    sizes = found.sizes[:-1]  # without the head
    for number, size in enumerate(sizes, 1):
        run.record(layer=number, gradient=size, when=when)
    return sizes[0] / sizes[-1]


def trial(settings: Settings, run: Run) -> Metrics:
    """Train a classifier and look at its gradients."""
    train, test, vectors, classes = encoded(settings, run)
    train, test = train.to(run.device), test.to(run.device)
    model = build(settings, vectors, classes).to(run.device)
    loader = Batches(train, settings.batch, shuffle=True, seed=run.seed)
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), settings.lr, fused=True)

    def clip(*_: Any) -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)

    optimizer.register_step_pre_hook(clip)
    rule, batch = Backprop(model, cross_entropy), (train.x[:200], train.y[:200])
    started, began, accuracies, losses = flow(model, batch, run, "start"), time.process_time(), [], [0.0]
    for epoch in run.track(range(1, settings.epochs + 1), "epochs"):
        losses = fit(rule, loader, optimizer)
        accuracies.append(evaluate(model, Batches(test, 500)))
        run.record(epoch=epoch, accuracy=accuracies[-1], loss=losses[-1])
    seconds = time.process_time() - began
    return {
        "accuracy": sum(accuracies[-3:]) / len(accuracies[-3:]),
        "train_loss": losses[-1],
        "weights": float(sum(p.numel() for p in model.parameters() if p.requires_grad)),
        "gradient_start": started,
        "gradient_end": flow(model, batch, run, "end"),
        "train_seconds": seconds,
    }


def smoke(settings: Settings) -> Settings:
    """A made-up set."""
    return replace(settings, data="toy", trained=40, epochs=1, layers=min(settings.layers, 2), top=6)


def paper(settings: Settings) -> Settings:
    """The published sizes on all of TREC."""
    large = replace(settings, trained=100_000, words=60, batch=100, epochs=30, lr=1e-3, top=100)
    if not settings.layers:
        return replace(large, top=300)
    return replace(large, layers=15, hidden=13 if settings.connection == "dense" else 42)


STUDY = Study(
    paper=Paper(
        "Densely Connected Bidirectional LSTM with Applications to Sentence Classification", "Ding et al.", 2018,
        arxiv="1802.00889",
    ),
    trial=trial,
    arms={
        "bilstm": Settings(layers=0, top=80, lr=5e-3),
        "dense": Settings(lr=5e-3),
        "stacked": Settings("stacked", hidden=32, lr=5e-3),
    },
    scales={"smoke": smoke, "paper": paper},
    claims=[
        Claim(
            "Dense connections train where a plain stack of the same depth and size does not", "Fig. 4",
            difference("accuracy", "dense", "stacked") > 0.10,
        ),
        Claim(
            "The dense network is ahead of one wide layer", "Table 2",
            difference("accuracy", "dense", "bilstm") > 0.005,
        ),
        Claim(
            "It fits the training questions better than the plain stack", "section 3.5",
            difference("train_loss", "stacked", "dense") > 0.2,
        ),
    ],
    figures=[
        Curve("Test accuracy by epoch", x="epoch", y="accuracy"),
        Curve("Training loss by epoch", x="epoch", y="loss"),
        Curve("A weight's gradient by layer, bottom first", ["dense", "stacked"], x="layer", y="gradient",
              series="when", log_y=True),
        Scatter("Accuracy against seconds of training", x="train_seconds", y="accuracy"),
        Bars("Test accuracy, mean of the last three epochs", metric="accuracy"),
    ],
    seeds=(3, 3),
)  # fmt: skip
