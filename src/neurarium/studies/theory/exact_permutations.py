"""Networks shown only the unit vectors permute all binary inputs exactly, once enough of them are averaged.

Giapitzakis, Back de Luca and Fountoulakis proved that a two-layer network of infinite width, trained on e_i -> P e_i,
has on average the right sign in every output for every binary input but zero; one network is too noisy, and the mean of
O(k log k) of them is exact on a given input of k bits, of O(k^2) on all 2^k - 1 inputs.

Small: permutations of 4, 6 and 8 bits, all inputs, 1,024 networks of 2,048 hidden units (``wide``) or 64 (``narrow``),
trained together by plain gradient descent at the rate 1 / lambda_max for 30 steps (the slowest mode is then below 1e-6;
the paper's code takes 10,000 epochs at a small rate). ``theory`` draws as many outputs from the closed-form law, and
computes ensemble sizes for up to 1,024 bits. Metrics: share of inputs with all bits right by the mean of N networks.

Paper: up to 30 bits, width 50,000, 1,000 inputs with two ones. Departures: sizes; the paper's growth in N is measured
by adding networks until a share is right, ours is the exact union bound and the shares themselves.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from neurarium.data import Batches, PermutationTask
from neurarium.lab import Arm, Claim, Curve, Metrics, Paper, Run, Study, all_of, value
from neurarium.models import NTKMLP
from neurarium.theory import permutation_output_law, required_ensemble_size
from neurarium.training import RunningMean, train_ensemble


@dataclass(frozen=True)
class Settings:
    """What the arms and scales change.

    Args:
        source: networks, or outputs drawn from the law of infinitely wide ones.
        bits: k of every task.
        members: networks in all.
        width: hidden units.
        steps: of gradient descent.
        inputs: drawn inputs per task; 0 for all of them.
        chunk: networks trained at once.
    """

    source: Literal["networks", "law"] = "networks"
    bits: tuple[int, ...] = (4, 6, 8)
    members: int = 1024
    width: int = 2048
    steps: int = 30
    inputs: int = 0
    chunk: int = 16


def half_squares(output: Tensor, target: Tensor) -> Tensor:
    """Half the sum of squared errors."""
    return (output - target).square().sum() / 2


def from_networks(settings: Settings, task: PermutationTask, x: Tensor, run: Run) -> Iterator[Tensor]:
    """Outputs [members, inputs, k], a chunk at a time."""
    k, data = task.k, task.train().to(run.device)
    rate = k / (1 + (k - 1) / (2 * math.pi))  # one over the largest eigenvalue of the tangent kernel
    parts = train_ensemble(
        lambda: NTKMLP(k, settings.width, k), Batches(data, k), half_squares, lambda p: torch.optim.SGD(p, rate),
        members=settings.members, steps=settings.steps, chunk=settings.chunk, seed=run.seed, device=run.device,
    )  # fmt: skip
    for part in parts:
        with torch.no_grad():
            yield part.predict_all(x)


def from_law(settings: Settings, task: PermutationTask, bits: Tensor, run: Run) -> Iterator[Tensor]:
    """The same, drawn."""
    laws = [permutation_output_law(task.k, int(m)) for m in bits.sum(1)]
    on, off, sd = (
        torch.tensor(part)[:, None] for part in zip(*[(w.on_mean, w.off_mean, w.variance**0.5) for w in laws])
    )
    mean = torch.where(task.target(bits) == 1, on, off)
    generator = torch.Generator().manual_seed(run.seed)
    for first in range(0, settings.members, settings.chunk):
        count = min(settings.chunk, settings.members - first)
        yield (mean + sd * torch.randn(count, *mean.shape, generator=generator)).to(run.device)


def trial(settings: Settings, run: Run) -> Metrics:
    """Average networks, and see how many are needed and what each answers."""
    metrics: dict[str, float] = {}
    for k in run.track(settings.bits, "tasks"):
        generator = torch.Generator().manual_seed(run.seed * 1000 + k)
        task = PermutationTask.draw(k, generator)
        bits = task.inputs(count=settings.inputs or None, generator=generator)
        pairs = bits.sum(1) == 2
        target = task.target(bits).to(run.device)
        x = task.scaled(bits).to(run.device)
        drawn = (
            from_law(settings, task, bits, run) if settings.source == "law" else from_networks(settings, task, x, run)
        )
        mean, single, enough = RunningMean(), 0.0, math.inf
        for outputs in drawn:
            right = ((outputs > 0) == target).all(-1).double()  # of each network alone
            single += float(right[:, pairs.to(run.device)].mean(1).sum())
            for count, output in zip(range(mean.count + 1, mean.count + len(outputs) + 1), outputs):
                average = mean.update(output[None])
                share = ((average > 0) == target).all(-1).double()
                if count & (count - 1) == 0:
                    run.record(networks=count, exact=float(share.mean()), k=f"k = {k}")
                if math.isinf(enough) and float(share.mean()) >= 0.99:
                    enough = count
        metrics[f"exact_all_{k}"], metrics[f"models_to_99_{k}"] = float(share.mean()), min(enough, settings.members + 1)
        metrics[f"exact_pairs_{k}"] = float(share[pairs.to(run.device)].mean())
        metrics[f"single_pairs_{k}"] = single / mean.count
        metrics[f"mean_error_{k}"] = deviations(k, bits, average.cpu(), target.cpu(), run)
    metrics["mean_error"] = float(np.mean([metrics[f"mean_error_{k}"] for k in settings.bits]))
    metrics["exact_pairs"], metrics["single_pairs"] = metrics[f"exact_pairs_{k}"], metrics[f"single_pairs_{k}"]
    return metrics


def deviations(k: int, bits: Tensor, mean: Tensor, target: Tensor, run: Run) -> float:
    """Mean distance of the average outputs from their closed form, over numbers of ones and both kinds of output."""
    found = []
    for m in bits.sum(1).unique().tolist():
        law, rows = permutation_output_law(k, m), bits.sum(1) == m
        kinds = {"on": (target[rows] == 1, law.on_mean)}
        if m < k:
            kinds["off"] = (target[rows] == 0, law.off_mean)
        for kind, (where, expected) in kinds.items():
            output = float(mean[rows][where].mean())
            found.append(abs(output - expected))
            if k == 8:
                run.record(ones=m, output=output, law=expected, kind=f"target {kind}")
    return float(np.mean(found))


@dataclass(frozen=True)
class Growth:
    """What the arm without networks changes.

    Args:
        bits: k, doubling.
        delta: probability of an error that is allowed.
    """

    bits: tuple[int, ...] = (8, 16, 32, 64, 128, 256, 512, 1024)
    delta: float = 0.01


def growth(settings: Growth, run: Run) -> Metrics:
    """Ensemble sizes by the union bound."""
    k = np.array(settings.bits, dtype=float)
    one, every = (
        np.array([required_ensemble_size(n, settings.delta, scope) for n in settings.bits], dtype=float)
        for scope in ("input", "all")
    )
    for n, a, b in zip(k, one, every):
        run.record(bits=n, networks=a, scope="one input")
        run.record(bits=n, networks=b, scope="all inputs")
        run.record(bits=n, networks=n * n, scope="k squared")
    large = k >= 64 if (k >= 64).sum() > 1 else k > 0
    share = every[large] / k[large] ** 2
    return {
        "slope": float(np.polyfit(np.log(k * np.log(k))[large], np.log(one)[large], 1)[0]),
        "slope_all": float(np.polyfit(np.log(k)[large], np.log(every)[large], 1)[0]),
        "largest_ratio": float((share[1:] / share[:-1]).max()),
        "share_first": float(share[0]),
        "share_last": float(share[-1]),
    }


def smoke(settings: Settings) -> Settings:
    """A few small networks."""
    return dataclasses.replace(settings, members=12, width=32, steps=10, chunk=8)


def paper_scale(settings: Settings) -> Settings:
    """The paper's sizes, with drawn inputs."""
    return dataclasses.replace(
        settings, bits=(5, 10, 15, 20, 25, 30), members=5000, width=64 if settings.width == 64 else 50_000, steps=120,
        inputs=3000, chunk=8,
    )  # fmt: skip


NETWORKS = {"theory": Settings("law"), "wide": Settings(), "narrow": Settings(width=64)}
STUDY = Study(
    paper=Paper(
        "Exact Learning of Permutations for Nonzero Binary Inputs with Logarithmic Training Size and Quadratic "
        "Ensemble Complexity",
        "Giapitzakis, Back de Luca, Fountoulakis",
        2025,
        arxiv="2502.16763",
    ),
    trial=None,
    arms={**{name: Arm(trial, s) for name, s in NETWORKS.items()}, "sizes": Arm(growth, Growth())},
    scales={
        "smoke": {Settings: smoke, Growth: {"bits": (8, 16, 32)}},
        "paper": {Settings: paper_scale, Growth: {"bits": tuple(2**n for n in range(3, 14))}},
    },
    claims=[
        Claim(
            "Averaging makes exact what a single network gets wrong: inputs of eight bits with two ones",
            "abstract, Fig. 2",
            value("exact_pairs", "wide") - value("single_pairs", "wide") > 0.4,
        ),
        Claim(
            "The mean of trained networks is exact on all inputs, of which they saw the unit vectors alone",
            "Theorem 1",
            value("exact_all_6", "wide") > 0.98,
        ),
        Claim(
            "Outputs of trained networks have the mean that the closed form of infinite width gives",
            "section 5",
            value("mean_error", "wide") < 0.01,
        ),
        Claim(
            "Networks needed for one input grow as k log k",
            "Theorem 2: O(k log k)",
            all_of(value("slope", "sizes") > 0.8, value("slope", "sizes") < 1.1),
        ),
        Claim(
            "Networks needed for all inputs grow no faster than k squared",
            "Theorem 2: O(k^2)",
            value("largest_ratio", "sizes") < 1.0,
        ),
    ],
    figures=[
        Curve(
            "Share of all inputs that the mean of N networks permutes exactly",
            x="networks", y="exact", series="k", log_x=True, arms=("theory", "wide", "narrow"),
        ),
        Curve(
            "Networks needed by the union bound, against the square of the bits",
            x="bits", y="networks", series="scope", log_x=True, log_y=True, arms=("sizes",),
        ),
        Curve("Mean output by the number of ones, eight bits", x="ones", y="output", series="kind"),
        Curve("... and what the closed form says", x="ones", y="law", series="kind", arms=("theory",)),
    ],
    seeds=(3, 8),
)  # fmt: skip
