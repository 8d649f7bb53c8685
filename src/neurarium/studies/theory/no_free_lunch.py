"""Real labels are compressible, by networks of any design; noise by none; and networks would rather predict repetition.

Goldblum et al. write networks down as short messages (trained in a random subspace, rounded, entropy-coded) and count
the bits of the labels given the network: a convolutional one that sees rows of a table as pictures compresses their
labels as well as one made for tables does. Labels drawn evenly cannot be compressed, by their version of the no free
lunch theorem. Language models with random weights give simple strings more probability. A polynomial of degree 10 with
a soft preference for low degrees is as good as one of the right degree at any number of examples.

Small: (a) ``mlp`` (two layers of 192) and ``cnn`` (two convolutions, on rows laid out as a square) on 6,000 rows of
Adult, and ``mlp`` on digits, 250 coordinates, 9 levels, 12 + 3 epochs of batches of 128, Adam at 0.007 (of 0.007,
0.02 and 0.06 the best for ``mlp`` on seed 100; for ``cnn`` less was better too); the code charges two bits for that
choice. ``*-shuffled`` are the same with the labels permuted. (b) 1,024 strings of ten bits, complexity by repetition,
30 decoders of three layers of width 48 with random weights. (c) Polynomials of degree 2, 10, and 10 with the penalty,
alpha 0.01, on x squared and a cosine, noise of deviation 0.1, 100 data sets for each size. All margins were fixed
before the run.

Paper: more rows, 2,000 coordinates, 60 epochs. Not here: ImageNet and CIFAR pairs, and GPT-3 on sequences of whole
numbers (`expression_sequences` and `sequence_preference` do that for any causal model). Departures: Q is a Kronecker
product of random signs, the paper's an orthogonalised sum of two; the pictures are not enlarged to twice their size.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from neurarium.compression import label_code_length
from neurarium.data import Arrays, load, repeat_complexity
from neurarium.lab import Arm, Bars, Claim, Curve, Metrics, Paper, Run, Study, all_of, difference, value
from neurarium.models import CausalTransformer, SoftDegreePolynomial
from neurarium.probes import sequence_preference


@dataclass(frozen=True)
class Labels:
    """A network and a set whose labels it codes."""

    network: Literal["mlp", "cnn"] = "mlp"
    data: str = "adult"
    shuffled: bool = False
    examples: int = 6000
    dim: int = 250
    levels: int = 9
    epochs: int = 12
    tuning_epochs: int = 3
    lr: float = 0.007


@dataclass(frozen=True)
class Strings:
    """Language models with random weights."""

    length: int = 10
    models: int = 30
    layers: int = 3
    width: int = 48


@dataclass(frozen=True)
class Polynomials:
    """Polynomials on data sets of several sizes."""

    degree: int = 10
    alpha: float = 0.0
    sizes: tuple[int, ...] = (6, 10, 20, 70)
    runs: int = 100


def labels(settings: Labels, run: Run) -> Metrics:
    """Bits of the labels and of the network."""
    split = load(settings.data).scaled().flat()
    train = split.train.subset(min(settings.examples, len(split.train)), run.seed)
    if settings.shuffled:
        order = torch.from_numpy(run.rng(1).permutation(len(train)))
        train = Arrays(train.x, train.y[order])
    test = split.test.subset(min(2000, len(split.test)), run.seed)
    build = functools.partial(network, settings.network, train.x.shape[1], len(split.classes))
    code = label_code_length(
        build, train.to(run.device), test=test.to(run.device), dim=settings.dim, levels=settings.levels,
        epochs=settings.epochs, tuning_epochs=settings.tuning_epochs, lr=settings.lr, seed=run.seed, choices=4,
    )  # fmt: skip
    for part, bits in (("labels", code.bits_data), ("network", code.bits_model), ("naive", code.naive_bits)):
        run.record(part=part, bits=bits)
    return {
        "ratio": code.ratio, "bits_data": code.bits_data, "bits_model": code.bits_model, "naive_bits": code.naive_bits,
        "train_error": code.train_error, "test_error": code.test_error, "pac_bayes": code.pac_bayes,
        "majority_error": 1 - float(torch.bincount(test.y).max()) / len(test),
        "per_label": code.bits_total / code.examples, "naive_per_label": code.naive_bits / code.examples,
    }  # fmt: skip


def network(kind: str, features: int, classes: int) -> nn.Module:
    """A classifier of rows."""
    if kind == "mlp":
        return nn.Sequential(
            nn.Linear(features, 192), nn.ReLU(), nn.Linear(192, 192), nn.ReLU(), nn.Linear(192, classes)
        )
    return nn.Sequential(
        Picture(math.isqrt(features - 1) + 1),
        nn.Conv2d(1, 24, 3, padding=1), nn.GroupNorm(4, 24), nn.ReLU(),
        nn.Conv2d(24, 48, 3, 2, 1), nn.GroupNorm(4, 48), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(192, classes),
    )  # fmt: skip


class Picture(nn.Module):
    """Rows as square images of one channel, padded with zeros."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, rows: Tensor) -> Tensor:
        return pad(rows, (0, self.side**2 - rows.shape[1])).view(-1, 1, self.side, self.side)


def strings(settings: Strings, run: Run) -> Metrics:
    """Mean probabilities of bit strings by complexity."""
    words = torch.tensor(list(itertools.product((0, 1), repeat=settings.length)))
    complexity = [repeat_complexity(word) for word in words.tolist()]
    models = (
        CausalTransformer(3, settings.width, 4, settings.layers, 4 * settings.width, settings.length).to(run.device)
        for _ in run.track(range(settings.models), "models")
    )
    found = sequence_preference(models, words.to(run.device), complexity, start=2, symbols=(0, 1))
    for level in sorted(set(complexity)):
        run.record(complexity=level, log2_probability=found.mean(level, level))
    return {"simple": found.mean(high=2), "complex": found.mean(low=7), "slope": found.slope}


TARGETS = {"square": lambda x: x**2, "cosine": lambda x: torch.cos(1.5 * math.pi * x)}


def polynomials(settings: Polynomials, run: Run) -> Metrics:
    """Errors on a clean grid, the mean of log10 over data sets."""
    metrics = {}
    grid = torch.linspace(0, 1, 100, dtype=torch.float64)
    for (t, (name, target)), size in itertools.product(enumerate(TARGETS.items()), settings.sizes):
        draw = torch.Generator().manual_seed(10_000 * run.seed + 100 * t + size)
        errors = []
        for _ in range(settings.runs):
            x = torch.rand(size, generator=draw, dtype=torch.float64)
            y = target(x) + 0.1 * torch.randn(size, generator=draw, dtype=torch.float64)
            model = SoftDegreePolynomial(settings.degree, settings.alpha).double().fit(x, y)
            errors.append((model(grid) - target(grid)).square().mean().log10())
        error = float(torch.stack(errors).mean())
        run.record(examples=size, log10_mse=error, target=name)
        metrics[f"{name}_{size}"] = error
    return metrics


SMALL_TABLES = {"epochs": 1, "tuning_epochs": 1, "dim": 20, "examples": 200, "data": "digits"}
SIZES = (6, 10, 20, 70)

STUDY = Study(
    paper=Paper(
        "The No Free Lunch Theorem, Kolmogorov Complexity, and the Role of Inductive Biases in Machine Learning",
        "Goldblum, Finzi, Rowan, Wilson", 2023, arxiv="2304.05366",
    ),
    trial=None,
    arms={
        "mlp-adult": Arm(labels, Labels()),
        "cnn-adult": Arm(labels, Labels("cnn")),
        "mlp-digits": Arm(labels, Labels(data="digits", epochs=40, tuning_epochs=8)),
        "mlp-shuffled": Arm(labels, Labels(shuffled=True)),
        "cnn-shuffled": Arm(labels, Labels("cnn", shuffled=True)),
        "random-decoders": Arm(strings, Strings()),
        "degree-2": Arm(polynomials, Polynomials(2)),
        "degree-10": Arm(polynomials, Polynomials(10)),
        "soft-10": Arm(polynomials, Polynomials(10, 0.01)),
    },
    scales={
        "smoke": {Labels: SMALL_TABLES, Strings: {"length": 8, "models": 2, "width": 8}, Polynomials: {"runs": 2}},
        "paper": {
            Labels: {"examples": 30_000, "dim": 2000, "epochs": 60, "tuning_epochs": 15}, Strings: {"models": 500},
            Polynomials: {"runs": 1000, "sizes": tuple(range(5, 71, 5))},
        },
    },
    claims=[
        Claim(
            "networks compress the labels of a table, the one made for pictures too", "Fig. 2",
            all_of(value("ratio", "mlp-adult") > 1.15, value("ratio", "cnn-adult") > 1.15),
        ),
        Claim(
            "and permuted labels not at all", "Theorem 1",
            all_of(value("ratio", "mlp-shuffled") < 1.01, value("ratio", "cnn-shuffled") < 1.01),
        ),
        Claim(
            "the code says for certain that the error on new examples is no chance", "section 3.2",
            all_of(value("pac_bayes", "mlp-adult") < 0.5, value("pac_bayes", "cnn-adult") < 0.5),
        ),
        Claim(
            "decoders with random weights give simple strings more probability", "Fig. 3",
            value("simple", "random-decoders") - value("complex", "random-decoders") > 0.5,
        ),
        Claim(
            "a flexible polynomial with a soft preference is far better than without at few examples", "Fig. 5",
            difference("cosine_10", "soft-10", "degree-10") < -1,
        ),
        Claim(
            "and better than a rigid one at many", "Fig. 5", difference("cosine_70", "soft-10", "degree-2") < -0.3,
        ),
        Claim(
            "and no worse than the rigid one where that is right, at any number", "Fig. 5",
            all_of(*(difference(f"square_{size}", "soft-10", "degree-2") < 0.3 for size in SIZES)),
        ),
    ],
    figures=[
        Bars("How many times shorter labels become, the network included", metric="ratio",
             arms=("mlp-adult", "cnn-adult", "mlp-digits", "mlp-shuffled", "cnn-shuffled"), note="1 is no gain."),
        Bars("Bits of a label, the network's share included", metric="per_label",
             arms=("mlp-adult", "cnn-adult", "mlp-shuffled", "cnn-shuffled")),
        Curve("log2 of the probability of ten bits by the length of the piece that repeats", x="complexity",
              y="log2_probability", arms=("random-decoders",), note="An even guess has -10."),
        Curve("Error of polynomials by number of examples (log10)", x="examples", y="log10_mse", series="target",
              arms=("degree-2", "degree-10", "soft-10")),
    ],
    seeds=(3, 3),
)  # fmt: skip
