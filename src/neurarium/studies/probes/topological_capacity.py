"""The number of parts that a decision region can have grows with width and depth, and suddenly.

Guss and Salakhutdinov drew data with known homology, trained many networks of each size to convergence, and compared
the homology of their decision regions with that of the data: at every complexity of the data there is a width below
which trained networks cannot get it right and above which they do; it grows with the number of parts and falls with
depth, and test error falls with it.

Small: K = 1, 4 or 9 discs on a grid in [-1, 1]^2, 1,000 points, rectifier networks of one or two hidden layers, three
widths around the change of each arm, first biases drawn from N(0, 0.5) so that kinks are spread over the square, Adam
at 0.01 and then 0.001 for the last 30 % of 800 full-batch steps, four initialisations of each width side by side in one
batched pass. A network succeeds where its region on a grid of 129 points has the data's b0 (and, for rings, b1).
`h_phase` is the smallest width at which half of the four succeed, twice the largest where none does. `annuli`: four
rings, two layers, 8 and 64 units, for loops. The protocol was fixed beforehand; that 800 steps are enough for nine
discs was seen on seed 100.

Paper: up to 30 parts, 500 units, six layers, 100 initialisations. Departures: the paper counts by persistent homology
of points; in two dimensions a grid counts exactly up to its spacing. The part of the paper about real images has no
number to test; `point_cloud_homology` is its tool.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from neurarium.data import Arrays, annuli, discs
from neurarium.lab import Claim, Curve, Heatmap, Metrics, Paper, Run, Study, all_of, value
from neurarium.probes import Betti, decision_region_homology
from neurarium.probes.grids._function_grid import evaluate
from neurarium.search import train_together
from neurarium.search.capacity._smallest_width import phase_transition

NEVER = 2.0
"""`h_phase` where no width is enough: this many times the largest."""


@dataclass(frozen=True)
class Settings:
    """What the arms and scales change."""

    parts: int = 9
    rings: bool = False
    layers: int = 1
    widths: tuple[int, ...] = (16, 32, 64)
    networks: int = 4
    examples: int = 1000
    steps: int = 800
    resolution: int = 129


def build(width: int, layers: int) -> Callable[[], nn.Module]:
    """Makes a rectifier network whose first kinks are spread over the square."""

    def make() -> nn.Module:
        sizes = [2] + [width] * layers
        hidden = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
        model = nn.Sequential(*hidden, nn.Linear(width, 2))
        first = hidden[0]
        assert isinstance(first, nn.Linear)
        nn.init.normal_(first.bias, std=0.5)
        return model

    return make


def accuracy(model: nn.Module, data: Arrays) -> float:
    """Share of right answers."""
    return float((evaluate(model, data.x).argmax(1) == data.y.cpu()).double().mean())


def trial(settings: Settings, run: Run) -> Metrics:
    """Every width, several networks of each."""
    shapes = (annuli if settings.rings else discs)(settings.parts)
    true = Betti(shapes.betti)
    data = shapes.sample(settings.examples, seed=2 * run.seed).to(run.device)
    test = shapes.sample(4000, seed=2 * run.seed + 1)
    seeds = range(1000 * run.seed, 1000 * run.seed + settings.networks)
    outcomes, found = [], {}
    right: list[float] = []
    wrong: list[float] = []
    errors: dict[int, list[float]] = {}
    for width in run.track(settings.widths, "widths"):
        models = train_together(build(width, settings.layers), data, seeds, steps=settings.steps)
        row = []
        for model in models:
            region = decision_region_homology(
                model, (-1.0, 1.0), resolution=settings.resolution, target=1, refine=False
            )
            error = region.betti.error(true)
            success = error == (0.0, 0.0) if settings.rings else error[0] == 0
            score = accuracy(model, test)
            (right if success else wrong).append(score)
            row.append(success)
            errors.setdefault(width, []).append(error[1] if settings.rings else error[0])
            run.record(width=width, b0=region.betti.b0, b1=region.betti.b1, accuracy=score, success=float(success))
        outcomes.append(row)
        found[width] = float(torch.tensor(row).double().mean())
        if run.seed == 0 and width in (settings.widths[0], settings.widths[-1]):
            picture(models[0], 2.2 * (width == settings.widths[-1]), run)
    phase = phase_transition(settings.widths, torch.tensor(outcomes))
    most = NEVER * settings.widths[-1]
    metrics = {f"success_{width}": rate for width, rate in found.items()}
    metrics |= {f"error_{width}": sum(e) / len(e) for width, e in errors.items()}
    middle = min(max(phase.middle, settings.widths[0] / NEVER), most)
    return metrics | {
        "h_phase": min(phase.width, most), "middle": middle, "sharpness": phase.sharpness,
        "accuracy_right": mean(right), "accuracy_wrong": mean(wrong), "right": float(len(right)),
    }  # fmt: skip


def mean(values: list[float]) -> float:
    """The mean, undefined for none."""
    return sum(values) / len(values) if values else math.nan


def picture(model: nn.Module, shift: float, run: Run) -> None:
    """The region on a coarse grid, moved to the right."""
    line = torch.linspace(-1, 1, 49, dtype=torch.float64)
    outputs = evaluate(model, torch.cartesian_prod(line, line))
    inside = (outputs[:, 1] > outputs[:, 0]).double()
    for (x, y), level in zip(torch.cartesian_prod(line, line).tolist(), inside.tolist()):
        run.record(x0=round(x + shift, 3), x1=round(y, 3), inside=level)


def arms() -> dict[str, Settings]:
    """K discs and l hidden layers; rings."""
    return {
        "K1-l1": Settings(parts=1, widths=(4, 8, 16)),
        "K4-l1": Settings(parts=4, widths=(8, 16, 32)),
        "K9-l1": Settings(parts=9),
        "K9-l2": Settings(parts=9, layers=2, widths=(8, 16, 32)),
        "annuli": Settings(parts=4, rings=True, layers=2, widths=(8, 64)),
    }


def smoke(settings: Settings) -> Settings:
    """A few steps of two widths."""
    return dataclasses.replace(settings, networks=2, examples=200, steps=20, resolution=33)


def paper_scale(settings: Settings) -> Settings:
    """The paper's sizes."""
    widths = (8, 64, 500) if settings.rings else (2, 4, 8, 16, 32, 64, 128, 256, 500)
    return dataclasses.replace(settings, widths=widths, networks=100, examples=20_000, steps=20_000, resolution=257)


GAIN = {arm: value("accuracy_right", arm) - value("accuracy_wrong", arm) for arm in ("K9-l1", "K9-l2")}

STUDY = Study(
    paper=Paper(
        "On Characterizing the Capacity of Neural Networks using Algebraic Topology", "Guss, Salakhutdinov", 2018,
        arxiv="1802.04443",
    ),
    trial=trial,
    arms=arms(),
    scales={"smoke": smoke, "paper": paper_scale},
    seeds=(3, 5),
    claims=[
        Claim(
            "The width at which networks get the topology right grows with the number of parts",
            "Section 4.2, Fig. 4",
            all_of(
                value("h_phase", "K9-l1") / value("h_phase", "K1-l1") > 1.99,
                value("h_phase", "K4-l1") - value("h_phase", "K1-l1") > -0.5,
                value("h_phase", "K9-l1") - value("h_phase", "K4-l1") > -0.5,
            ),
        ),
        Claim(
            "With a second layer fewer units are enough",
            "Section 4.2",
            value("h_phase", "K9-l2") - value("h_phase", "K9-l1") < 0,
        ),
        Claim(
            "Networks with the data's homology err less than those without",
            "Theorem 3.1, Fig. 5",
            all_of(GAIN["K9-l1"] > 0.02, GAIN["K9-l2"] > 0.02),
        ),
        Claim(
            "The change is sudden: from a quarter to three quarters of the networks within a factor of 4 in width",
            "Fig. 4",
            all_of(value("success_16", "K9-l1") < 0.26, value("success_64", "K9-l1") > 0.74),
        ),
        Claim(
            "Loops too: rings are counted right at 64 units and not at 8",
            "Section 4.2",
            value("error_8", "annuli") - value("error_64", "annuli") > 0.3,
        ),
    ],
    figures=[
        Curve("Share of networks with the data's homology", x="width", y="success", log_x=True),
        Curve("Parts of the decision region", x="width", y="b0", log_x=True),
        Curve("Test accuracy", x="width", y="accuracy", log_x=True),
        Heatmap("Decision regions of the narrowest (left) and the widest network, seed 0", x="x0", y="x1",
                value="inside"),
    ],
)  # fmt: skip
