"""A recurrent network stays stable by multipliers on the rows of its recurrent matrix, without a clipping threshold.

The paper (Chen & Deng, 2013) trains a recurrent network of sigmoid units for phone recognition, on the hidden layer of
a frame classifier, as a constrained problem: cross-entropy subject to the infinity norm of the recurrent matrix staying
below 4, the value under which the state forgets its start. Each row has a multiplier, learned by dual ascent. With a
window that looks ahead (ARMA) it reports 18.86 % phone errors on TIMIT's core test.

Small: simulated speech (TIMIT is licensed). 16 phones of 3 to 9 frames, targets in 13 dimensions averaged over 5
frames, noise of 2.5 (a frame classifier then errs on four frames in ten, as on real speech); 240 training and 100 test
sentences of 100 frames. The frame classifier (two layers of 128 sigmoids, 3 frames on either side) is trained for 3
epochs and frozen; its last hidden layer feeds a recurrent network of 128 sigmoids with a window of 3 frames on either
side (in the arms ``ar/`` without one), trained for 8 epochs by SGD with momentum 0.9 on batches of 16 sentences. Arms:
the method, projection onto the bound after every step, gradient clipping at 0.1, 1 and 10, nothing, and the frame
classifier alone. All share data, classifier, initial weights and order. The recurrent matrix starts at 0.9 of the
bound, in the arms ``hot/`` at 1.5. Phone errors are counted after a Viterbi search with a bigram of frame labels.

The learning rate is the best of 0.1, 0.3 and 1 on seed 100, which the method, projection, clipping at 10 and plain
training agree on; it is the same in all arms, since a threshold that needs a rate of its own is a tuned threshold. The
dual step is the best of 0.001, 0.003 and 0.01 there, and of 0.0001, 0.0002, 0.0003 and 0.001 from the hot start. The
noise was chosen on that seed, too: with less, errors are too few for margins in points.

Paper: TIMIT from the user's own licensed copy (the folder ``timit`` in ``$NEURARIUM_DATA``): 40 log-mel bands, 183
states (thirds of the 61 transcribed phones; the paper's came from an aligner), 39 phones in scoring, the core test set;
three layers of 2,000 units, 500 recurrent ones. ``--set corpus=simulated`` runs the same sizes on simulated speech.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.data import Arrays, Batches
from neurarium.lab import Bars, Claim, Curve, Metrics, Paper, Run, Study, all_of, difference, value
from neurarium.layers import FrameWindow
from neurarium.learning import Backprop, GradientNoise, MaxRowSum, PrimalDual, echo_state_constraints
from neurarium.models import ARMARNN
from neurarium.probes import forgetting_rate
from neurarium.speech import bigram_viterbi, estimate_transitions, frame_error_rate, phone_error_rate
from neurarium.studies.learning._phone_sentences import FrozenFeatures, Sentences, simulated, timit
from neurarium.training import fit


@dataclass(frozen=True)
class Settings:
    """An arm, its data and its sizes."""

    method: Literal["primal-dual", "projection", "clip", "plain", "dnn-only"] = "plain"
    window: int = 3  # frames that the recurrent network sees on either side
    clip: float = 0.0  # largest norm of the gradient
    start: float = 0.9  # infinity norm of the recurrent matrix before training, over its bound
    corpus: Literal["simulated", "timit"] = "simulated"
    train: int = 240
    test: int = 100
    frames: int = 100  # of a simulated sentence
    noise: float = 2.5  # of simulated speech
    dnn_layers: int = 2
    dnn_width: int = 128
    dnn_epochs: int = 3
    dnn_lr: float = 0.3
    hidden: int = 128  # recurrent units
    epochs: int = 8
    batch_size: int = 16
    lr: float = 0.3
    dual_lr: float = 0.003


def trial(settings: Settings, run: Run) -> Metrics:
    """Train the frame classifier, then the recurrent network on its last hidden layer; errors on the test sentences."""
    generator = torch.Generator().manual_seed(run.seed)
    if settings.corpus == "timit":
        data = timit(settings.train, settings.test)
    else:
        data = simulated(settings.train, settings.test, settings.frames, settings.noise, generator)
    data = Sentences(data.train.to(run.device), data.test.to(run.device), data.phone_of)
    dnn = frame_classifier(data.features, settings.dnn_layers, settings.dnn_width, len(data.phone_of)).to(run.device)
    learn(dnn, data.train, settings.dnn_epochs, settings.batch_size, settings.dnn_lr, run.seed)
    if settings.method == "dnn-only":
        return {**errors(dnn, data), "norm_peak": 0.0, "norm_final": 0.0, "norm_early": 0.0, "diverged": 0.0}
    model = ARMARNN(
        settings.dnn_width, settings.hidden, len(data.phone_of), settings.window, settings.window,
        features=FrozenFeatures(dnn[:-1]),
    ).to(run.device)  # fmt: skip
    constraint = echo_state_constraints(model)["rnn.weight_hh_l0"]
    with torch.no_grad():
        constraint.parameter.mul_(settings.start / constraint.ratio())
    measured = learn_recurrent(settings, model, constraint, data.train, run)
    found = errors(model, data) if not measured["diverged"] else {"frame_error": 1.0, "phone_error": 1.0}
    profile(model, data.test, run)
    return {**found, **measured}


def frame_classifier(features: int, layers: int, width: int, labels: int) -> nn.Sequential:
    """Layers of sigmoids over a window of 7 frames, and a readout."""
    sizes = [7 * features] + [width] * layers
    parts: list[nn.Module] = [FrameWindow(3, 3)]
    for fan_in in sizes[:-1]:
        linear = nn.Linear(fan_in, width)
        nn.init.xavier_uniform_(linear.weight, gain=4.0)  # a sigmoid flattens what it is given by 4
        parts += [linear, nn.Sigmoid()]
    return nn.Sequential(*parts, nn.Linear(width, labels))


def frame_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy, the mean over frames."""
    return cross_entropy(logits.flatten(0, 1), y.flatten())


def learn(model: nn.Module, data: Arrays, epochs: int, batch_size: int, lr: float, seed: int) -> None:
    """Plain training of the frame classifier."""
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9)
    fit(Backprop(model, frame_loss), Batches(data, batch_size, shuffle=True, seed=seed), optimizer, epochs=epochs)


def learn_recurrent(settings: Settings, model: ARMARNN, constraint: MaxRowSum, data: Arrays, run: Run) -> Metrics:
    """Training of the recurrent network by the arm's method; what its norm did."""
    rule = Backprop(model, frame_loss)
    optimizer = torch.optim.SGD(model.parameters(), settings.lr, momentum=0.9)
    multipliers = PrimalDual(constraint, dual_lr=settings.dual_lr)
    penalties = []
    if settings.method == "primal-dual":
        multipliers.attach(optimizer)
        penalties = [multipliers]
    elif settings.method == "projection":

        def project(*_: object) -> None:
            constraint.project_()

        optimizer.register_step_post_hook(project)
    elif settings.method == "clip":
        clip = GradientNoise(eta=0.0, max_norm=settings.clip)  # clipping alone, before every step
        clip.attach(optimizer)
    batches = Batches(data, settings.batch_size, shuffle=True, seed=run.seed)
    ratios = [constraint.ratio()]
    active: list[float] = []

    def watch(step: int, loss: float) -> None:
        ratios.append(constraint.ratio())
        active.append(multipliers.active())
        taken = len(active)  # in all epochs; fit counts those of one
        if taken % 5 == 0 or taken == 1:
            largest = float(multipliers.multipliers["0"].max())
            run.record(step=taken, norm_over_bound=ratios[-1], largest_multiplier=largest, loss=loss)

    diverged = 0.0
    try:
        for _ in run.track(range(settings.epochs), "epochs"):
            fit(rule, batches, optimizer, penalties=penalties, callbacks=[watch])
    except FloatingPointError:
        diverged = 1.0
    early = ratios[min(3 * len(batches), len(ratios) - 1)]
    return {
        "norm_peak": max(ratios), "norm_final": ratios[-1], "norm_early": early, "slack": constraint.slack(),
        "active_rows": sum(active) / len(active), "diverged": diverged,
    }  # fmt: skip


@torch.no_grad()
def errors(model: nn.Module, data: Sentences) -> dict[str, float]:
    """Frame error, and phone error after a Viterbi search with a bigram."""
    labels, spoken = len(data.phone_of), data.train.y[data.train.y >= 0]
    prior = torch.bincount(spoken, minlength=labels).float().div(len(spoken)).clamp_min(1e-6).log()
    scores = torch.cat([model(x).log_softmax(-1) for x, _ in Batches(data.test, 100)])
    lengths = (data.test.y >= 0).sum(1)
    path = bigram_viterbi(scores, estimate_transitions(data.train.y, labels), lengths, log_prior=prior)
    return {
        "frame_error": frame_error_rate(scores.argmax(-1), data.test.y),
        "phone_error": phone_error_rate(path, data.test.y, data.phone_of),
    }


def profile(model: ARMARNN, test: Arrays, run: Run) -> None:
    """Record how fast two starts meet and how far back a gradient reaches, on 8 test sentences."""
    with torch.no_grad():
        stacked = model.stacked(test.x[:8, :40])
    found = forgetting_rate(model.rnn, stacked, generator=torch.Generator().manual_seed(run.seed))
    for lag, (distance, gradient) in enumerate(zip(found.distances, found.gradients, strict=True)):
        run.record(lag=lag, distance=max(distance, 1e-12), gradient=max(gradient, 1e-12))


CLIPS = ("clip-0.1", "clip-1", "clip-10")
STUDY = Study(
    paper=Paper(
        "A Primal-Dual Method for Training Recurrent Neural Networks Constrained by the Echo-State Property",
        "Chen & Deng", 2013, "1311.6091",
    ),
    trial=trial,
    arms={
        "primal-dual": Settings("primal-dual"),
        "projection": Settings("projection"),
        "clip-0.1": Settings("clip", clip=0.1),
        "clip-1": Settings("clip", clip=1.0),
        "clip-10": Settings("clip", clip=10.0),
        "plain": Settings(),
        "ar/primal-dual": Settings("primal-dual", window=0),
        "ar/plain": Settings(window=0),
        "dnn-only": Settings("dnn-only"),
        "hot/primal-dual": Settings("primal-dual", start=1.5, dual_lr=0.0002),
        "hot/plain": Settings(start=1.5),
    },
    scales={
        "smoke": {"train": 20, "test": 5, "frames": 40, "dnn_width": 16, "dnn_epochs": 1, "hidden": 16, "epochs": 1},
        "small": {},
        "paper": {
            "corpus": "timit", "train": 3_696, "test": 192, "frames": 300, "dnn_layers": 3, "dnn_width": 2_000,
            "hidden": 500, "epochs": 20,
        },
    },
    claims=[
        Claim(
            "the method makes no more phone errors than the best clipping threshold", "results on TIMIT",
            all_of(*(difference("phone_error", clip, "primal-dual") > -0.01 for clip in CLIPS)),
        ),
        Claim(
            "a clipping threshold must be tuned: thresholds make more errors than the method on average",
            "introduction",
            (value("phone_error", CLIPS[0]) + value("phone_error", CLIPS[1]) + value("phone_error", CLIPS[2])) / 3
            - value("phone_error", "primal-dual") > 0.01,
        ),
        Claim(
            "looking ahead lowers the error", "results on TIMIT",
            difference("phone_error", "ar/primal-dual", "primal-dual") > 0.03,
        ),
        Claim(
            "the recurrent network on the classifier's features makes fewer errors than the classifier",
            "results on TIMIT", difference("phone_error", "dnn-only", "primal-dual") > 0.02,
        ),
        Claim(
            "the recurrent matrix ends within its bound", "section on training",
            all_of(value("norm_final", "primal-dual") < 1.05, value("norm_final", "ar/primal-dual") < 1.05),
        ),
        Claim(
            "started half above the bound it is within it after 3 epochs", "section on training",
            value("norm_early", "hot/primal-dual") < 1.05,
        ),
    ],
    figures=[
        Bars("Looking ahead pays; so does not having a threshold that is too low", metric="phone_error"),
        Curve(
            "Multipliers hold the infinity norm at its bound", x="step", y="norm_over_bound",
            arms=("primal-dual", "projection", "clip-1", "plain", "hot/primal-dual", "hot/plain"),
        ),
        Curve(
            "The largest multiplier", x="step", y="largest_multiplier",
            arms=("primal-dual", "ar/primal-dual", "hot/primal-dual"),
        ),
        Curve(
            "How far back a gradient reaches", x="lag", y="gradient", log_y=True,
            arms=("primal-dual", "plain", "clip-1", "hot/plain"),
        ),
    ],
    seeds=(3, 9),
)  # fmt: skip
