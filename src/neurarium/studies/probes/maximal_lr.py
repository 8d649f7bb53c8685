"""The largest learning rate with which a ReLU network can start to train is a power of depth times width.

The paper (Iyer et al., 2022) measures, for fully connected ReLU networks of constant width, the largest rate of plain
SGD with which a fresh network reaches a threshold accuracy. With a small rate for the input layer and width well above
depth it finds a power law in depth times width, and that the rate is strongly related to the sharpness at the start
(the largest eigenvalue of the loss's Hessian), but not inversely, as 2 / lambda would have it. Exponents and fits are
not known to us.

Small: 2,000 training and 500 held-out images of MNIST, widths of 32 to 256 and 2, 4 or 8 hidden layers, He
initialisation, batches of 64, 180 steps, a threshold of 0.4 checked every 10; one initialisation per seed, brackets of
at most 15 %. (90 steps and 0.6 were looked at first, on seed 100: the deep networks then needed all of the budget, so
that it and not stability decided.) ``small-input-rate`` slows the input layer to a hundredth, ``equal-rate`` does not;
both have the same networks and batches. Sharpness is that of the cross-entropy on 256 images, the input layer left out.
Depth counts hidden layers. The law is fitted where width is at least eight times depth; the cell of width 256 and 8
layers is left out of that fit and predicted. Paper: widths to 2,048, depths to 32, all of MNIST.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.stats import linregress, spearmanr
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.data import Arrays, Batches, load
from neurarium.lab import Claim, Curve, Heatmap, Metrics, Paper, Run, Scatter, Study, all_of, difference, value
from neurarium.models import plain_mlp
from neurarium.probes import NoLearningRate, learning_rate_law, maximal_learning_rate, sharpness
from neurarium.training import evaluate


@dataclass(frozen=True)
class Settings:
    """``predicted`` is the cell (depth, width) left out of a second fit; ``low`` the first rate that is tried."""

    input_scale: float = 0.01
    data: str = "mnist-small"
    images: int = 2_000
    held_out: int = 500
    widths: tuple[int, ...] = (32, 64, 128, 256)
    depths: tuple[int, ...] = (2, 4, 8)
    predicted: tuple[int, int] = (8, 256)
    steps: int = 180
    threshold: float = 0.4
    tolerance: float = 0.15
    low: float = 0.05
    batch_size: int = 64
    sharpness_images: int = 256


def trial(settings: Settings, run: Run) -> Metrics:
    """Largest rate and sharpness of every network, and the laws through them."""
    split = load(settings.data).scaled().flat().to(run.device)
    drawn = split.train.subset(settings.images + settings.held_out, run.seed)
    train, held_out = drawn[: settings.images], drawn[settings.images :]
    rates: dict[tuple[int, int], float] = {}
    curvature: dict[tuple[int, int], float] = {}
    budget: list[float] = []
    for depth, width in run.track([(d, n) for d in settings.depths for n in settings.widths], "networks"):
        rates[depth, width] = rate = largest(settings, run, train, held_out, depth, width, budget)
        curvature[depth, width] = first = sharp(settings, run, train, depth, width)
        if math.isfinite(rate):
            run.record(size=depth * width, rate=rate, hidden_layers=f"{depth} layers")
            run.record(depth=depth, width=math.log2(width), log_rate=math.log10(rate))
            run.record(sharpness=first, largest_rate=rate)
    return summarise(settings, rates, curvature) | {"budget_used": sum(budget) / len(budget)}


def build(settings: Settings, run: Run, depth: int, width: int, inputs: int) -> nn.Sequential:
    """A network with the trial's initial weights."""
    generator = torch.Generator().manual_seed(run.seed)
    return plain_mlp(inputs, 10, width=width, depth=depth, generator=generator).to(run.device)


def largest(
    settings: Settings, run: Run, train: Arrays, held_out: Arrays, depth: int, width: int, budget: list[float]
) -> float:
    """Largest rate for one network, and the share of its budget that the best success below it used."""
    used: list[float] = []
    try:
        found = maximal_learning_rate(
            lambda restart: build(settings, run, depth, width, train.x.shape[1]), cross_entropy,
            lambda restart: Batches(train, settings.batch_size, shuffle=True, seed=run.seed),
            lambda model: evaluate(model, Batches(held_out, 1000)), threshold=settings.threshold, chance=0.1,
            steps=settings.steps, input_scale=settings.input_scale, low=settings.low, tolerance=settings.tolerance,
            restarts=1, budget_used=used,
        )  # fmt: skip
    except NoLearningRate:  # none reaches the threshold within the budget: a narrow, deep network
        return math.nan
    budget.append(used[-1])
    return found.value


def sharp(settings: Settings, run: Run, train: Arrays, depth: int, width: int) -> float:
    """Sharpness at the start, the input layer left out."""
    x: Tensor = train.x[: settings.sharpness_images]
    return sharpness(
        build(settings, run, depth, width, x.shape[1]), cross_entropy, x, train.y[: settings.sharpness_images],
        exclude=("0.weight", "0.bias"), tolerance=1e-2, generator=torch.Generator().manual_seed(run.seed),
    ).largest  # fmt: skip


def summarise(
    settings: Settings, rates: dict[tuple[int, int], float], curvature: dict[tuple[int, int], float]
) -> dict[str, float]:
    """The law where width is well above depth, its prediction of the cell left out, and sharpness against rate."""
    wide = {(d, n): r for (d, n), r in rates.items() if n >= 8 * d}
    law = learning_rate_law(wide if len(wide) >= 3 else rates)
    fitted = learning_rate_law({cell: r for cell, r in wide.items() if cell != settings.predicted} or rates)
    known = rates.get(settings.predicted, math.nan)
    miss = fitted.predict(*settings.predicted) / known
    cells = [cell for cell, rate in rates.items() if math.isfinite(rate)]
    logs = [[math.log(of[cell]) for cell in cells] for of in (curvature, rates)]
    line = linregress(*logs)
    grown = linregress([math.log(d * n) for d, n in cells], logs[0])
    return {
        "exponent": law.exponent, "r2": law.r2, "depth_exponent": law.depth_exponent,
        "width_exponent": law.width_exponent,
        "exponent_gap": abs(law.depth_exponent - law.width_exponent) / abs(law.exponent),
        "sharpness_exponent": float(grown.slope), "rate_on_sharpness": float(line.slope),
        "rank_correlation": float(spearmanr(*logs).statistic), "miss": max(miss, 1 / miss),
        "cells_measured": float(len(cells)),
    }  # fmt: skip


STUDY = Study(
    paper=Paper("Maximal Initial Learning Rates in Deep ReLU Networks", "Iyer, Hanin and Rolnick", 2022, "2212.07295"),
    trial=trial,
    arms={"small-input-rate": Settings(), "equal-rate": Settings(input_scale=1.0)},
    scales={
        "smoke": {
            "images": 300, "held_out": 100, "widths": (16, 32), "depths": (1, 2), "predicted": (2, 32), "steps": 40,
            "threshold": 0.3, "tolerance": 0.5, "low": 0.01, "sharpness_images": 64,
        },
        "small": {},
        "paper": {
            "data": "mnist", "images": 50_000, "held_out": 10_000, "widths": (128, 256, 512, 1024, 2048),
            "depths": (2, 4, 8, 16, 32), "predicted": (32, 2048), "steps": 390, "tolerance": 0.05, "batch_size": 128,
            "sharpness_images": 2_000,
        },
    },
    claims=[
        Claim("a power of depth times width predicts the rate", "Fig. 1", value("r2", "small-input-rate") > 0.85),
        Claim("depth and width count alike", "Sec. 4", value("exponent_gap", "small-input-rate") < 0.5),
        Claim("the law needs a slow input layer", "Sec. 4", difference("r2", "small-input-rate", "equal-rate") > 0),
        Claim(
            "the rate falls with sharpness, but less than inversely", "Fig. 4",
            all_of(
                value("rate_on_sharpness", "small-input-rate") > -1, value("rate_on_sharpness", "small-input-rate") < 0
            ),
        ),
        Claim(
            "the sharper at the start, the smaller the rate", "Fig. 4",
            value("rank_correlation", "small-input-rate") < -0.8,
        ),
        Claim(
            "the law predicts a larger network within a factor of 1.6", "Sec. 4",
            value("miss", "small-input-rate") < 1.6,
        ),
    ],
    figures=[
        Curve("The largest rate falls with depth times width", x="size", y="rate", series="hidden_layers", log_x=True),
        Heatmap("log10 of the largest rate, by width (log2) and depth", x="width", y="depth", value="log_rate"),
        Curve("The largest rate against sharpness at the start", x="sharpness", y="largest_rate", log_x=True),
        Scatter("Fit of the law against its exponent", x="exponent", y="r2"),
    ],
    seeds=(3, 12),
)  # fmt: skip
