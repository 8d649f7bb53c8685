"""Infinitely wide and deep networks classify as the nearest neighbour, the majority, or an optimal smoother.

Radhakrishnan, Belkin and Uhler proved that regression with the neural tangent kernel becomes, as depth grows, one of
three classifiers, which three averages of the activation decide: the nearest neighbour, the majority vote, or a vote
with weights 1 / distance^alpha. With alpha equal to the dimension of the data the last reaches the Bayes error as
examples grow in number, and simple polynomial activations have it.

Small: directions in the positive part of the sphere in three dimensions (so d = 2), two classes with a wavy border,
labels wrong with probability .2, which is the Bayes error; 250 to 2,000 examples, 1,000 test points, errors taken
exactly over the label noise. Arms are activations and depths: the optimal one for d = 2 at 3 to 3,000 layers and at
infinite depth, weights with the exponents 1 and 4, activations of the two other classes, and the rectifier. Agreement
of a deep network with its limit is taken at 500 examples whose classes stand 60:40 (at 50:50 the majority is a matter
of chance). ``digits`` arms are handwritten digits on the eight principal dimensions of a sphere, without a claim.

Paper: 10,000 examples (kernels of finite depth cost a solve), and MNIST. Departures: the data are ours; the exponents
1 and 4 are given by the weights themselves, not by activations. An exponent below the dimension may well be better at
these numbers of examples, since consistency speaks of the limit; that arm has no claim.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neurarium.data import SphereTask, load
from neurarium.lab import Arm, Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Study, all_of, difference, value
from neurarium.theory import DeepKernelClassifier, SingularKernelClassifier, log_deep_kernel, optimal_activation

DEPTHS = (3, 30, 300, 3000)
OPTIMAL = optimal_activation(2).coefficients
NEAREST, MAJORITY = (0.0, 0.0, 1.0), (math.sqrt(0.1), math.sqrt(0.4), 0.0, math.sqrt(0.5))
THRESHOLD = -0.298
"""Moves the border to where 60 % of the noisy labels are 1."""


@dataclass(frozen=True)
class Settings:
    """What the arms and scales change.

    Args:
        activation: Hermite coefficients; empty for the rectifier.
        depth: hidden layers; 0 for the limit of infinite depth.
        alpha: weights 1 / distance^alpha instead of a network, from 0 on.
        sizes: numbers of training examples.
        tests: test points.
        agreement: examples at which the network is compared with its limit; 0 for not at all.
    """

    activation: tuple[float, ...] = OPTIMAL
    depth: int = 0
    alpha: float = -1.0
    sizes: tuple[int, ...] = (250, 500, 1000, 2000)
    tests: int = 1000
    agreement: int = 500


def classifier(settings: Settings, depth: int) -> DeepKernelClassifier | SingularKernelClassifier:
    """Weights of the arm's exponent, or its network at a depth."""
    if settings.alpha >= 0:
        return SingularKernelClassifier(settings.alpha)
    return DeepKernelClassifier(settings.activation or torch.relu, depth or math.inf)


def trial(settings: Settings, run: Run) -> Metrics:
    """Error against the number of examples, and agreement with the limit of infinite depth."""
    generator = torch.Generator().manual_seed(run.seed)
    task = SphereTask()
    data = task.draw(max(*settings.sizes, settings.agreement), generator)
    test = task.inputs(settings.tests, generator)
    data, test = data.to(run.device), test.to(run.device)
    model = classifier(settings, settings.depth)
    metrics = {"bayes": task.noise}
    for n in run.track(settings.sizes, "sizes"):
        error = task.error(test, model.fit(data.x[:n], data.y[:n]).predict(test))
        run.record(examples=n, error=error)
        metrics[f"error_{n}"] = error
    metrics["error"], metrics["error_least"] = error, metrics[f"error_{settings.sizes[0]}"]
    if settings.depth:
        skewed = SphereTask(threshold=THRESHOLD)
        flipped = data.y ^ task.rule(data.x)
        x, y = data.x[: settings.agreement], (skewed.rule(data.x) ^ flipped)[: settings.agreement]
        limit = classifier(settings, 0).fit(x, y).predict(test)
        metrics["agreement"] = float((model.fit(x, y).predict(test) == limit).double().mean())
    shapes(settings, run)
    regions(model.fit(data.x[:500], data.y[:500]), run)
    return metrics


def shapes(settings: Settings, run: Run) -> None:
    """The kernel against distance, divided by its scale in the limit."""
    if settings.activation == OPTIMAL and settings.depth:
        r = torch.logspace(-4, 0, 33, dtype=torch.float64)
        kernel = log_deep_kernel(OPTIMAL, r**2 / 2, settings.depth)
        scale = 2 * settings.depth * math.log(OPTIMAL[1]) + math.log(settings.depth + 1)
        for distance, log in zip(r.tolist(), ((kernel.log - scale) / math.log(10)).tolist(), strict=True):
            run.record(distance=distance, log10_kernel=log)


def regions(model: DeepKernelClassifier | SingularKernelClassifier, run: Run, steps: int = 24) -> None:
    """Decisions over the triangle of directions, seen from its middle."""
    across, up = torch.meshgrid(*[(torch.arange(steps) + 0.5) / steps * math.pi / 2] * 2, indexing="xy")
    x = torch.stack([up.sin() * across.cos(), up.sin() * across.sin(), up.cos()], -1).reshape(-1, 3).double()
    decisions = model.predict(x.to(run.device)).tolist()
    for angle, height, decision in zip(across.flatten().tolist(), up.flatten().tolist(), decisions, strict=True):
        run.record(longitude=angle, colatitude=height, decision=decision)


@dataclass(frozen=True)
class Images:
    """What the arms on digits change.

    Args:
        activation: Hermite coefficients; empty for the rectifier.
        depth: hidden layers; 0 for the limit of infinite depth.
        dim: of the sphere that the images are put on.
        examples: training images at most.
    """

    activation: tuple[float, ...] = optimal_activation(8).coefficients
    depth: int = 0
    dim: int = 8
    examples: int = 1200


def on_sphere(x: Tensor, basis: Tensor) -> Tensor:
    """Principal components as directions."""
    x = x.double() @ basis
    return x / x.norm(dim=1, keepdim=True)


def digits(settings: Images, run: Run) -> Metrics:
    """Accuracy on handwritten digits."""
    split = load("digits").scaled().flat()
    train = split.train.subset(min(settings.examples, len(split.train)), seed=run.seed).to(run.device)
    test = split.test.to(run.device)
    basis = torch.linalg.eigh(train.x.double().T @ train.x.double())[1][:, -settings.dim - 1 :]
    model = DeepKernelClassifier(settings.activation or torch.relu, settings.depth or math.inf)
    predicted = model.fit(on_sphere(train.x, basis), train.y).predict(on_sphere(test.x, basis))
    return {"accuracy": float((predicted == test.y).double().mean())}


ARMS = {
    "singular-inf": Settings(),
    **{f"singular-{depth}": Settings(depth=depth) for depth in DEPTHS},
    "alpha-1": Settings(alpha=1.0),
    "alpha-4": Settings(alpha=4.0),
    "nearest-inf": Settings(NEAREST),
    "nearest-40": Settings(NEAREST, 40, sizes=(250,)),
    "majority-inf": Settings(MAJORITY),
    "majority-60": Settings(MAJORITY, 60, sizes=(250,)),
    "relu-3": Settings((), 3),
    "relu-100": Settings((), 100),
}
DIGITS = {
    "digits-singular": Arm(digits, Images()),
    "digits-nearest": Arm(digits, Images(NEAREST)),
    "digits-relu-3": Arm(digits, Images((), 3)),
}


def smoke(settings: Settings) -> Settings:
    """A few examples."""
    return dataclasses.replace(settings, sizes=(50, 100), tests=100, agreement=60, depth=min(settings.depth, 30))


def paper_scale(settings: Settings) -> Settings:
    """As many examples as a solve allows."""
    sizes = (250, 1000, 4000, 16_000) if settings.depth else (250, 1000, 4000, 16_000, 100_000)
    return dataclasses.replace(settings, sizes=sizes, tests=10_000)


STUDY = Study(
    paper=Paper(
        "Wide and Deep Neural Networks Achieve Optimality for Classification",
        "Radhakrishnan, Belkin, Uhler",
        2022,
        arxiv="2204.14126",
    ),
    trial=None,
    arms={**{name: Arm(trial, settings) for name, settings in ARMS.items()}, **DIGITS},
    scales={
        "smoke": {Settings: smoke, Images: {"examples": 100}},
        "paper": {Settings: paper_scale},
    },
    claims=[
        Claim(
            "The optimal activation's infinitely deep network errs less than the nearest neighbour",
            "Theorem 1, abstract",
            difference("error", "nearest-inf", "singular-inf") > 0.05,
        ),
        Claim(
            "... and less than the majority vote",
            "Theorem 1, abstract",
            difference("error", "majority-inf", "singular-inf") > 0.15,
        ),
        Claim(
            "Its error goes on falling with more examples, while the nearest neighbour's stays away from Bayes's",
            "Theorem 2",
            all_of(
                value("error_least", "singular-inf") - value("error", "singular-inf") > 0.005,
                value("error", "nearest-inf") > 0.29,
            ),
        ),
        Claim(
            "A deep network classifies as its limit says: nearest neighbour, majority, or singular kernel",
            "Theorem 1",
            all_of(
                value("agreement", "nearest-40") > 0.97,
                value("agreement", "majority-60") > 0.97,
                value("agreement", "singular-3000") > 0.9,
                difference("agreement", "singular-3000", "singular-30") > 0,
            ),
        ),
        Claim(
            "The exponent has to fit the dimension: twice as large errs more",
            "section on optimality",
            difference("error", "alpha-4", "singular-inf") > 0.02,
        ),
    ],
    figures=[
        Curve(
            "Error against the number of examples; the best possible is 0.2",
            x="examples", y="error", log_x=True, arms=tuple(n for n in ARMS if n not in ("nearest-40", "majority-60")),
        ),
        Curve(
            "Kernel of the optimal activation against distance: slope -4 at small, -2 at large distance",
            note="log10 of K / (A'^2L (L + 1)); deeper networks turn from -4 to -2 at smaller distances.",
            x="distance", y="log10_kernel", log_x=True, arms=tuple(f"singular-{depth}" for depth in DEPTHS),
        ),
        Heatmap(
            "Decisions over the sphere, 500 examples",
            x="longitude", y="colatitude", value="decision",
            arms=("singular-inf", "nearest-inf", "majority-inf", "relu-3", "alpha-4"),
        ),
        Bars("Agreement with the classifier of infinite depth", metric="agreement"),
        Bars("Digits on a sphere of eight dimensions: accuracy", metric="accuracy", arms=tuple(DIGITS)),
    ],
    seeds=(5, 5),
)  # fmt: skip
