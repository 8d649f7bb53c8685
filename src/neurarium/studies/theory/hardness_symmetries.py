"""Knowing the symmetry does not make a target easy: some symmetric families hide from every gradient.

Kiani et al. prove that graph networks, convolutional and frame-averaged networks, and invariant polynomials all hold
families of targets that are mutually (nearly) uncorrelated and so many that a learner from correlations, gradient
descent on a squared loss included, needs super-polynomially many queries. Their experiments show over-parametrized
symmetric students that do not beat the trivial predictor on such targets; figures only.

Small: n = 16 coordinates under cyclic shifts, normal inputs. Targets are parities of k = 2, 4 or 6 coordinates through
rectifiers, summed over their 16 shifts and of variance 1: a convolution with 2^k channels and sum pooling. Students
see fresh inputs, 600 steps of Adam at 3e-3 with batches of 256: ``cnn``, a hidden layer of 256 units averaged over
the shifts (the same as a convolution over the whole circle with pooling), ``frame``, 1,024 units after a rotation
that brings the largest coordinate to the front, and ``mlp``, 1,024 units and no symmetry. ``r2_k`` is R² on 3,000 fresh
inputs. Graphs: disjoint stars, each there or not; the parity of how many are there, for 4, 8 and 12 stars, learned by a
graph network (64 units, Adam at 3e-3, batches of 128, 400 steps) or by elimination over the field of two elements from
40 graphs. The number of graph steps and their batch were chosen on seed 100, all else is as planned before any run.

``family`` trains nothing. It correlates the targets of all 22 orbits of 4 among 10 coordinates on 40,000 inputs
(``excess`` is the largest correlation times the root of their number; ``excess_own_error`` is in units of its own
standard error, and ``exact_largest`` the closed form), and computes what the
gradient at a random start sees of the choice of target: the variance, over up to 12 targets, of the expected gradient
of read-out weights, in closed form (``log_signal_k``, its decadic logarithm per unit). A sampled estimate would be all
noise from k = 4 on. Query bounds are for answers off by 0.01, as from 10,000 examples.

Paper: 64 coordinates, k to 8, 20,000 steps, 16 stars.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import mse_loss, soft_margin_loss

from neurarium.data import SymmetricTarget, cyclic_shifts, degree_counts, degree_parity, planar_harmonic, subset_parity
from neurarium.data.hard_symmetric._relu_families import relu_moments
from neurarium.lab import Arm, Claim, Curve, Heatmap, Metrics, Paper, Run, Study, all_of, difference, value
from neurarium.lab.claims import Quantity
from neurarium.learning import Backprop
from neurarium.models import FrameAveraged, GraphSumNet, GroupAveraged, cyclic_frame
from neurarium.theory import correlation_matrix, csq_lower_bound, solve_parity
from neurarium.training import fit

SUBSETS = {2: (0, 1), 4: (0, 1, 4, 6), 6: (0, 1, 3, 4, 7, 9), 8: (0, 1, 3, 4, 7, 9, 10, 14)}


@dataclass(frozen=True)
class Students:
    """A student of invariant parities."""

    student: Literal["cnn", "frame", "mlp"] = "cnn"
    n: int = 16
    sizes: tuple[int, ...] = (2, 4, 6)
    channels: int = 256
    units: int = 1_024
    learning_rate: float = 3e-3
    batch_size: int = 256
    steps: int = 600
    every: int = 50
    test: int = 3_000


@dataclass(frozen=True)
class Graphs:
    """A learner of degree parities."""

    learner: Literal["gnn", "elimination"] = "gnn"
    stars: tuple[int, ...] = (4, 8, 12)
    width: int = 64
    learning_rate: float = 3e-3
    batch_size: int = 128
    steps: int = 400
    every: int = 50
    examples: int = 40
    test: int = 512


@dataclass(frozen=True)
class Family:
    """Sizes of the correlations and of the closed forms."""

    correlated: tuple[int, int] = (10, 4)  # coordinates, of which chosen
    samples: int = 40_000
    n: int = 16
    sizes: tuple[int, ...] = (2, 4, 6)
    targets: int = 12
    units: int = 256
    planes: int = 12
    tolerance: float = 0.01


def learn(settings: Students, run: Run) -> Metrics:
    """R² of a student on parities of each size."""
    metrics: dict[str, float] = {}
    for k in run.track(settings.sizes, "sizes"):
        target = subset_parity(settings.n, SUBSETS[k], cyclic_shifts(settings.n))
        x, y = drawn(target, settings.test, torch.Generator().manual_seed(10_000 + run.seed), run.device)
        torch.manual_seed(run.seed)
        model = student(settings).to(run.device)
        for step in descend(model, target, mse_loss, settings, run):
            with torch.no_grad():
                metrics[f"r2_{k}"] = 1 - float((model(x) - y).square().mean() / y.var())
            run.record(step=step, r2=metrics[f"r2_{k}"], size=f"k = {k}")
    return metrics


def student(settings: Students) -> nn.Module:
    """One hidden layer, with the symmetry or without."""

    def layer(units: int) -> nn.Module:
        return nn.Sequential(nn.Linear(settings.n, units), nn.ReLU(), nn.Linear(units, 1))

    if settings.student == "cnn":
        return GroupAveraged(layer(settings.channels), cyclic_shifts(settings.n))
    return FrameAveraged(layer(settings.units), cyclic_frame) if settings.student == "frame" else layer(settings.units)


def count(settings: Graphs, run: Run) -> Metrics:
    """Accuracy of a learner on the parity of all stars that there can be, for several numbers of them."""
    metrics: dict[str, float] = {}
    for stars in run.track(settings.stars, "numbers of stars"):
        target = degree_parity(range(stars), stars)
        x, y = drawn(target, settings.test, torch.Generator().manual_seed(10_000 + run.seed), run.device)
        if settings.learner == "elimination":
            graphs, known = drawn(target, settings.examples, torch.Generator().manual_seed(run.seed), run.device)
            found = solve_parity(degree_counts(graphs, stars), (known[:, 0] < 0).long())
            odd = degree_counts(x, stars)[:, found].sum(1) % 2 if found is not None else torch.zeros_like(y[:, 0])
            metrics[f"accuracy_{stars}"] = float(((odd > 0) == (y[:, 0] < 0)).double().mean())
            continue
        torch.manual_seed(run.seed)
        model = GraphSumNet(settings.width).to(run.device)
        for step in descend(model, target, soft_margin_loss, settings, run):
            with torch.no_grad():
                metrics[f"accuracy_{stars}"] = float(((model(x) > 0) == (y > 0)).double().mean())
            run.record(step=step, accuracy=metrics[f"accuracy_{stars}"], stars=f"{stars} stars")
    return metrics


def descend(
    model: nn.Module,
    target: SymmetricTarget,
    loss: Callable[[Tensor, Tensor], Tensor],
    settings: Students | Graphs,
    run: Run,
) -> Iterator[int]:
    """Train on fresh inputs; gives the number of steps every so often."""
    rule = Backprop(model, loss)
    optimizer = torch.optim.Adam(rule.parameters(), lr=settings.learning_rate)
    generator = torch.Generator().manual_seed(run.seed)
    for done in range(0, settings.steps, settings.every):
        batches = (drawn(target, settings.batch_size, generator, run.device) for _ in range(settings.every))
        fit(rule, batches, optimizer)
        yield done + settings.every


def drawn(
    target: SymmetricTarget, number: int, generator: torch.Generator, device: str
) -> tuple[Tensor, Float[Tensor, "number 1"]]:
    """Inputs, and what they are to give."""
    x = target.sample(number, generator)
    return x.to(device), target(x)[:, None].to(device)


def correlate(settings: Family, run: Run) -> Metrics:
    """Correlations within the family, query bounds, and the signal that a gradient carries."""
    generator = torch.Generator().manual_seed(run.seed)
    n, k = settings.correlated
    targets = [subset_parity(n, subset, cyclic_shifts(n)) for subset in orbits(n, k)]
    report = correlation_matrix(targets, torch.randn(settings.samples, n, generator=generator))
    for i, row in enumerate(report.matrix.tolist()):
        for j, correlation in enumerate(row):
            run.record(target=i, other=j, correlation=correlation)
    metrics = {
        "orbits": len(targets),
        "excess": report.largest * math.sqrt(settings.samples),
        "excess_own_error": float((report.matrix / report.error).fill_diagonal_(0.0).abs().max()),
        "exact_largest": exactly(targets),
        "uncorrelated": report.dimension(5 / math.sqrt(settings.samples)),
        "planes_excess": planes(settings, generator),
    }
    for coordinates, size in itertools.product((8, 12, 16, 24, 32, 48, 64), (2, 4, 6, 8)):
        bound = csq_lower_bound(math.comb(coordinates, size) / coordinates, settings.tolerance)
        if bound >= 1:
            run.record(coordinates=coordinates, queries=bound, size=f"k = {size}")
    weights = nn.functional.normalize(torch.randn(settings.units, settings.n, generator=generator).double())
    for size in run.track(settings.sizes, "sizes"):
        metrics[f"log_signal_{size}"] = math.log10(signal(settings, size, weights))
        run.record(k=size, signal=10 ** metrics[f"log_signal_{size}"])
    return metrics


def exactly(targets: Sequence[SymmetricTarget]) -> float:
    """The largest correlation of two targets without its sign, in closed form."""
    networks = [[p.double() for p in target.network.parameters()] for target in targets]
    return max(abs(float(a @ relu_moments(u, v) @ b.T)) for (u, a), (v, b) in itertools.combinations(networks, 2))


def planes(settings: Family, generator: torch.Generator) -> float:
    """How far harmonics in random planes correlate beyond what the planes' overlap allows; below 0: not at all."""
    n, k = settings.correlated
    bases = [torch.linalg.qr(torch.randn(n, 2, generator=generator))[0].T for _ in range(settings.planes)]
    x = torch.randn(settings.samples, n, generator=generator)
    matrix = correlation_matrix([planar_harmonic(k, basis) for basis in bases], x).matrix
    pairs = itertools.combinations(range(settings.planes), 2)
    return max(
        abs(float(matrix[i, j])) - float(torch.linalg.matrix_norm(bases[i] @ bases[j].T, 2)) ** k for i, j in pairs
    )


def signal(settings: Family, k: int, weights: Float[Tensor, "units inputs"]) -> float:
    """Variance over targets of E ∂ loss / ∂ a_j = −2 E relu(⟨w_j, x⟩) f(x), at a = 0, mean over units j.

    The targets are networks of rectifiers, so the expectations are known in closed form.
    """
    chosen = orbits(settings.n, k)[: settings.targets]
    gradients = []
    for subset in chosen:
        hidden, out = subset_parity(settings.n, subset, cyclic_shifts(settings.n)).network.parameters()
        gradients.append(-2 * relu_moments(weights, hidden.double()) @ out[0].double())
    return float(torch.stack(gradients).var(0).mean())


def orbits(n: int, k: int) -> list[tuple[int, ...]]:
    """One of each class of k-subsets that are shifts of each other, the first in order."""
    subsets = itertools.combinations(range(n), k)
    return sorted({min(tuple(sorted((place + by) % n for place in s)) for by in range(n)) for s in subsets})


def within(arm: str, first: str, second: str) -> Quantity:
    """One metric of an arm less another of the same arm."""
    return value(first, arm) - value(second, arm)


STUDY = Study(
    paper=Paper("On the hardness of learning under symmetries", "Kiani et al.", 2024, "2401.01869"),
    trial=None,
    arms={
        "cnn": Arm(learn, Students("cnn")),
        "frame": Arm(learn, Students("frame")),
        "mlp": Arm(learn, Students("mlp")),
        "gnn": Arm(count, Graphs("gnn")),
        "elimination": Arm(count, Graphs("elimination")),
        "family": Arm(correlate, Family()),
    },
    scales={
        "smoke": {
            Students: {"channels": 8, "units": 8, "batch_size": 8, "steps": 2, "every": 1, "test": 50},
            Graphs: {"width": 4, "batch_size": 4, "steps": 2, "every": 1, "test": 20},
            Family: {"correlated": (6, 2), "samples": 500, "targets": 2, "units": 4, "planes": 3},
        },
        "small": {},
        "paper": {
            Students: {"n": 64, "sizes": (2, 4, 6, 8), "steps": 20_000, "every": 500},
            Graphs: {"stars": (4, 8, 12, 16), "steps": 20_000, "every": 500},
            Family: {"correlated": (14, 6), "samples": 1_000_000, "sizes": (2, 4, 6, 8), "units": 1_024},
        },
    },
    claims=[
        Claim(
            "a student with the symmetry learns an easy member of the family and not a hard one", "experiments, CNN",
            within("cnn", "r2_2", "r2_6") > 0.6,
        ),
        Claim(
            "symmetric students do not beat the trivial predictor on the hard one", "experiments, CNN",
            all_of(value("r2_6", "cnn") < 0.1, value("r2_6", "frame") < 0.1),
        ),
        Claim(
            "the more coordinates a parity has, the less of it is learned", "theorems on CNNs and frame averaging",
            all_of(within("cnn", "r2_2", "r2_4") > 0, within("cnn", "r2_4", "r2_6") > 0),
        ),
        Claim(
            "where gradients see the target, the symmetry helps", "our addition",
            difference("r2_2", "cnn", "mlp") > 0.1,
        ),
        Claim(
            "graph networks: parities of many degrees stay at chance, of few they are learned", "theorem on GNNs",
            all_of(value("accuracy_12", "gnn") < 0.6, within("gnn", "accuracy_4", "accuracy_12") > 0.15),
        ),
        Claim(
            "the obstacle is the kind of query, not information: elimination needs 40 graphs", "our addition",
            value("accuracy_12", "elimination") > 0.999,
        ),
        Claim(
            "all orbits' targets are mutually uncorrelated", "lemma on the families",
            value("excess", "family") < 5,
        ),
        Claim("and exactly so, in closed form", "lemma on the families", value("exact_largest", "family") < 1e-6),
        Claim(
            "what a gradient sees of the target falls with each pair of coordinates", "CSQ lower bounds",
            all_of(
                within("family", "log_signal_2", "log_signal_4") > 0,
                within("family", "log_signal_4", "log_signal_6") > 0,
            ),
        ),
    ],
    figures=[
        Curve(
            "Parities of k coordinates and their shifts: what is learned", x="step", y="r2", series="size",
            arms=("cnn", "frame", "mlp"),
        ),
        Curve("Parities of stars: a graph network", x="step", y="accuracy", series="stars", arms=("gnn",)),
        Curve("What the gradient at the start sees of the choice of target", x="k", y="signal", log_y=True),
        Curve(
            "Queries that any learner from correlations needs", x="coordinates", y="queries", series="size", log_y=True,
            note="For one orbit of each size under cyclic shifts, answers off by 0.01.",
        ),
        Heatmap("Correlations of the targets of all orbits", x="target", y="other", value="correlation"),
    ],
)  # fmt: skip
