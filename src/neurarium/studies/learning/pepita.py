"""Learning from two forward passes, the second perturbed by the error, is feedback alignment that adapts.

The paper (Srinivasan et al., 2024) studies PEPITA: the output error, through a fixed matrix F, perturbs the input, and
each layer learns from the difference of its activities. It shows that this is nearly adaptive feedback alignment (AFA,
direct feedback alignment with matrix −W_1 F), solves AFA's learning curve for wide inputs, relates the rule to
Forward-Forward, and improves it with weight mirroring. It reports just over 50 % on CIFAR-10 with one to three hidden
layers of 1,024, a few points behind backpropagation; the time-local form is about ten points weaker.

Small: 784-512-10 without biases (arms ``deep/``: two hidden layers) on 10,000 training and 5,000 test images of MNIST,
batches of 64, plain SGD, 6 epochs with the rate cut tenfold after the fourth and the fifth (the paper's 60 and 90 of
100). Arms share images, their order and initial weights; F is drawn after the weights. The rate at the start is each
arm's best of 0.01, 0.03, 0.1 and 0.3 (time-local, which adds plain Hebbian terms: 1e-5 to 1e-2 in steps of 10) after 3
epochs of seed 100, on 2,000 training images held out; of 0.01, 0.03 and 0.1 for the deep arms, which carry no claim
(at 0.1, that of one hidden layer, the deep network diverges). ``pepita+mirror`` has 100 steps of mirroring before
training and after each epoch, for which F must be a product of factors; as the authors draw it that is nine times
smaller, so ``pepita-factored``, which has the same F and is not mirrored, is what mirroring is held against.

``angle_shift`` is how far the angle between F and (W_L ... W_1)ᵀ moved beyond its start near 90°; ``update_cosine``
compares PEPITA's update of the first layer with AFA's at the same weights, with the same F, after training (a curve
shows it by epoch), ``hebbian_cosine`` with the Hebbian form's. The arm ``theory`` trains a teacher-student network of
1,000 inputs, two units each, on 20,000 examples; ``ode_gap`` is the largest distance of its error from the equations,
``v_gap``, ``q_gap``, ``r_gap`` and ``d_gap`` those of the order parameters (readout, overlaps of the student with
itself, the teacher and the feedback), whose chance part is of order 1 / √N = 0.03; the margin is three times that.

Paper: all images, hidden layers of 1,024, dropout of 0.1, 100 epochs with the rate cut tenfold at 60 and 90;
``--set data=cifar10`` for the other set.
"""

from __future__ import annotations

import copy
import itertools
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from neurarium.data import Arrays, Batches, load
from neurarium.lab import Bars, Claim, Curve, Metrics, Paper, Run, Study, all_of, difference, value
from neurarium.learning import (
    AdaptiveFeedbackAlignment,
    Backprop,
    DirectFeedbackAlignment,
    ForwardForward,
    LearningRule,
    Pepita,
    Shallow,
    WeightMirror,
)
from neurarium.probes import feedback_angle
from neurarium.theory import TeacherStudent, order_parameter_dynamics, simulate
from neurarium.training import evaluate, fit


@dataclass(frozen=True)
class Settings:
    """An arm: the rule, its feedback, the network and its training."""

    rule: str = "pepita"
    factored: bool = False
    mirror_steps: int = 0
    lr: float = 0.1
    data: str = "mnist-small"
    train: int = 10_000
    test: int = 5_000
    held_out: bool = False
    width: int = 512
    depth: int = 1
    dropout: float = 0.0
    epochs: int = 6
    decay_at: tuple[int, ...] = (4, 5)
    batch_size: int = 64
    inputs: int = 1_000
    until: float = 20.0


def trial(settings: Settings, run: Run) -> Metrics:
    """Train with one rule, or hold the theory against a simulation."""
    if settings.rule == "theory":
        return theory(settings, run)
    split = load(settings.data)
    pool = split.train.subset(settings.train + (2_000 if settings.held_out else 0), seed=run.seed)
    test = pool[settings.train :] if settings.held_out else split.test[: settings.test]
    split = replace(split, train=pool[: settings.train], test=test).scaled().to(run.device)
    rule = build(settings, split.train.x[0].numel(), len(split.classes)).to(run.device)
    mirror = WeightMirror(rule) if isinstance(rule, Pepita) and settings.mirror_steps else None
    optimizer = torch.optim.SGD(rule.parameters(), settings.lr)
    batches = Batches(split.train, settings.batch_size, shuffle=True, seed=run.seed)
    before = measured(rule, split.train)
    if mirror:
        mirror.step(settings.mirror_steps)
    reached, seconds = 0.0, 0.0
    for epoch in run.track(range(1, settings.epochs + 1), "epochs"):
        start = time.perf_counter()
        loss = fit(rule, batches, optimizer)[0]
        if mirror:
            mirror.step(settings.mirror_steps)
        seconds += time.perf_counter() - start
        if epoch in settings.decay_at:
            optimizer.param_groups[0]["lr"] /= 10
            if isinstance(rule, Pepita):
                rule.local_rate /= 10
        if isinstance(rule, ForwardForward):
            rule.prediction = "readout"
        reached = evaluate(rule, Batches(split.test, 1000))
        seen = measured(rule, split.train)
        run.record(epoch=epoch, loss=loss, accuracy=reached, **seen)
    shift = {"angle_shift": seen["angle"] - before["angle"]} if "angle" in seen else {}
    return {"accuracy": reached, "training_seconds": seconds, **seen, **shift}


def build(settings: Settings, inputs: int, classes: int) -> LearningRule:
    """The network, He-uniform without biases, and the arm's rule around it."""
    layers: list[nn.Module] = [nn.Flatten()]
    sizes = [inputs, *[settings.width] * settings.depth]
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b, bias=False), nn.ReLU()] + [nn.Dropout(settings.dropout)] * (settings.dropout > 0)
    model = nn.Sequential(*layers, nn.Linear(settings.width, classes, bias=False))
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    if settings.rule in ("pepita", "hebbian", "time-local"):
        return Pepita(model, cross_entropy, update=settings.rule, local_rate=settings.lr, factored=settings.factored)
    return {
        "afa": AdaptiveFeedbackAlignment,
        "bp": Backprop,
        "dfa": DirectFeedbackAlignment,
        "ff": ForwardForward,
        "last-layer": Shallow,
    }[settings.rule](model, cross_entropy)


def measured(rule: LearningRule, data: Arrays) -> dict[str, float]:
    """Angle of the feedback; for PEPITA how well AFA and the Hebbian form agree with it, at its weights."""
    if not isinstance(rule, (Pepita, AdaptiveFeedbackAlignment)):
        return {}
    found = {"angle": feedback_angle(rule).degrees}
    if isinstance(rule, Pepita) and rule.update == "pepita":
        x, y = data.x[:256], data.y[:256]
        mine = first_update(Pepita(copy.deepcopy(rule.model), rule.loss), rule, x, y)
        adaptive = first_update(AdaptiveFeedbackAlignment(copy.deepcopy(rule.model), rule.loss), rule, x, y)
        hebbian = first_update(Pepita(copy.deepcopy(rule.model), rule.loss, update="hebbian"), rule, x, y)
        found["update_cosine"] = float(cosine_similarity(mine, adaptive, 0))
        found["hebbian_cosine"] = float(cosine_similarity(mine, hebbian, 0))
    return found


def first_update(other: Pepita | AdaptiveFeedbackAlignment, rule: Pepita, x: Tensor, y: Tensor) -> Tensor:
    """What ``other`` gives the first layer with the feedback of ``rule``."""
    other.eval()
    other.feedback = rule.feedback
    other.zero_grad()
    other.assign_credit(x, y)
    gradient: Tensor = other.layers[0].weight.grad
    return gradient.flatten()


def theory(settings: Settings, run: Run) -> Metrics:
    """AFA's learning curve from its equations and from training."""
    start = TeacherStudent.draw(settings.inputs, (0.5, -0.4), seed=run.seed)
    times = [settings.until * share / 20 for share in range(21)]
    exact = order_parameter_dynamics(start, times, rule="afa", dt=0.05)
    found = simulate(start, times, rule="afa", seed=run.seed)
    for t, a, b in zip(times, exact.error, found.error, strict=True):
        run.record(t=t, source="equations", error=a)
        run.record(t=t, source="training", error=b)
    gaps = {}
    for name, expected in exact.order_parameters.items():
        reached = found.order_parameters[name]
        gaps[f"{name.lower()}_gap"] = float(abs(reached - expected).max())
        for t, a, b in zip(times, expected, reached, strict=True):
            run.record(t=t, parameter=f"{name}, equations", value=float(a[0]))
            run.record(t=t, parameter=f"{name}, training", value=float(b[0]))
    return {"ode_gap": max(abs(a - b) for a, b in zip(exact.error, found.error, strict=True)), **gaps}


STUDY = Study(
    paper=Paper(
        "Forward Learning with Top-Down Feedback: Empirical and Analytical Characterization",
        "Srinivasan et al.", 2023, "2302.05440",
    ),
    trial=trial,
    arms={
        "bp": Settings("bp", lr=0.3),
        "dfa": Settings("dfa", lr=0.3),
        "pepita": Settings(),
        "pepita-hebbian": Settings("hebbian", lr=0.3),
        "pepita-tl": Settings("time-local", lr=1e-3),
        "afa": Settings("afa", lr=0.3),
        "pepita-factored": Settings(factored=True),
        "pepita+mirror": Settings(factored=True, mirror_steps=100),
        "ff": Settings("ff", lr=0.03),
        "last-layer": Settings("last-layer"),
        "deep/pepita": Settings(depth=2, lr=0.01),
        "deep/pepita-factored": Settings(depth=2, factored=True, lr=0.03),
        "deep/pepita+mirror": Settings(depth=2, factored=True, mirror_steps=100, lr=0.03),
        "theory": Settings("theory"),
    },
    scales={
        "smoke": {"train": 300, "test": 200, "width": 32, "epochs": 1, "inputs": 100, "until": 1.0},
        "small": {},
        "paper": {
            "data": "mnist", "train": 60_000, "test": 10_000, "width": 1024, "dropout": 0.1, "epochs": 100,
            "decay_at": (60, 90),
        },
    },
    claims=[
        Claim(
            "adaptive feedback alignment is as accurate as PEPITA", "section 3, learning curves",
            abs(difference("accuracy", "pepita", "afa")) < 0.02,
        ),
        Claim(
            "so is the Hebbian form", "section 3",
            abs(difference("accuracy", "pepita", "pepita-hebbian")) < 0.02,
        ),
        Claim(
            "PEPITA's update of the first layer points along that of adaptive feedback alignment", "section 3",
            value("update_cosine", "pepita") > 0.9,
        ),
        Claim(
            "the hidden layer learns: better than the last layer alone", "tables",
            difference("accuracy", "pepita", "last-layer") > 0.0,
        ),
        Claim(
            "learning turns the forward weights against the feedback", "section 4, alignment",
            value("angle_shift", "pepita") > 10,
        ),
        Claim(
            "weight mirroring does not cost accuracy", "section 5",
            difference("accuracy", "pepita+mirror", "pepita-factored") > -0.005,
        ),
        Claim(
            "backpropagation is only a few points better", "Table 1",
            difference("accuracy", "bp", "pepita") < 0.05,
        ),
        Claim(
            "the equations give the learning curve of adaptive feedback alignment", "section 3, analysis",
            value("ode_gap", "theory") < 0.02,
        ),
        Claim(
            "and the path of every order parameter", "section 3, analysis",
            all_of(*(value(f"{name}_gap", "theory") < 0.1 for name in "vqrd")),
        ),
    ],
    figures=[
        Curve(
            "PEPITA and adaptive feedback alignment learn alike", x="epoch", y="accuracy",
            arms=("bp", "dfa", "pepita", "pepita-hebbian", "pepita-tl", "afa", "ff", "last-layer"),
        ),
        Curve(
            "Training lies on the line of the equations", x="t", y="error", series="source", arms=("theory",),
            note="Generalisation error of a teacher-student network against examples per input.",
        ),
        Curve(
            "So does every order parameter", x="t", y="value", series="parameter", arms=("theory",),
            note="First unit: readout v, overlaps Q with itself, R with the first teacher unit, D with the feedback.",
        ),
        Curve(
            "Learning turns the weights against the feedback; mirroring turns them further", x="epoch", y="angle",
            arms=("pepita", "afa", "pepita-factored", "pepita+mirror", "deep/pepita-factored", "deep/pepita+mirror"),
        ),
        Curve(
            "How long the first-order picture of PEPITA holds", x="epoch", y="update_cosine",
            arms=("pepita", "pepita+mirror", "deep/pepita"),
        ),
        Bars("Test accuracy", metric="accuracy"),
    ],
    seeds=(3, 5),
)  # fmt: skip
