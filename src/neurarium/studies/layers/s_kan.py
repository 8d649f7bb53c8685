"""Nodes that choose their own basis even out the ups and downs of Kolmogorov-Arnold networks.

Yang et al. let every node of a Kolmogorov-Arnold network weigh several bases, keep the best and prune the rest (S-KAN).
They report it ahead of networks of any single basis and of perceptrons on seven function-fitting tasks, and ahead on
four image sets with its convolutional form. Their functions, sizes and numbers are not known to us.

Small: seven functions on [-1, 1]² of our choice, from smooth to broken, 1,000 points each, targets standardised,
networks [2, 5, 1] with 8 functions an edge, 200 full-batch steps of Adam (.02, one cycle). S-KAN selects and prunes
after half of them; afterwards it has the parameters of a network of one basis (reported). ``random-choice`` has a
random basis in each node from the start: it says whether *choosing* matters. The perceptron (2-16-8-1, SiLU) has
about the same number of parameters. Figures are logarithms (base 10) of the test error relative to the target's
spread; the regret of an arm is the largest distance, over the functions, from the best single basis. Adam's rate was
not tuned. The four image sets are left out. Paper: ten times the points, 4,000 steps.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim.lr_scheduler import OneCycleLR

from neurarium.lab import Bars, Claim, Curve, Metrics, Paper, Run, Study, difference
from neurarium.lab.claims import Quantity
from neurarium.layers import KANLinear, SelectableKANLinear
from neurarium.search import BasisSelection

BASES = ("bspline", "radial", "chebyshev", "wavelet", "fourier")
SIZE = 8


def functions(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """The seven targets."""
    return {
        "smooth": torch.exp(torch.sin(math.pi * x) + y**2),
        "high": torch.sin(10 * math.pi * x) * torch.cos(3 * y),
        "step": x.sign() + 0.5 * (y - 0.3).sign(),
        "abs": (x.abs() - y.abs()).abs(),
        "product": x * y,
        "peak": torch.exp(-50 * ((x - 0.2) ** 2 + (y - 0.2) ** 2)),
        "bessel": torch.special.bessel_j0(20 * x) * (1 + y),
    }


@dataclass(frozen=True)
class Settings:
    """What the arms and scales change."""

    kind: str = "s-kan"
    points: int = 1000
    steps: int = 200
    learning_rate: float = 0.02


def layer(kind: str, inputs: int, outputs: int) -> nn.Module:
    """One layer of an arm."""
    if kind not in ("s-kan", "random-choice"):
        return KANLinear(inputs, outputs, basis=kind, grid_size=SIZE - 3, scale=False)
    selectable = SelectableKANLinear(inputs, outputs, size=SIZE)
    if kind == "random-choice":
        selectable.choice.copy_(torch.randint(len(BASES), (outputs,)))
        return selectable.grouped()
    return selectable


def network(kind: str) -> nn.Module:
    """[2, 5, 1], or the perceptron."""
    if kind == "mlp":
        return nn.Sequential(nn.Linear(2, 16), nn.SiLU(), nn.Linear(16, 8), nn.SiLU(), nn.Linear(8, 1))
    return nn.Sequential(layer(kind, 2, 5), layer(kind, 5, 1))


def trial(settings: Settings, run: Run) -> Metrics:
    """Fit all functions."""
    points = torch.rand(2 * settings.points, 2, generator=torch.Generator().manual_seed(run.seed)) * 2 - 1
    points = points.to(run.device)
    metrics: dict[str, float] = {}
    for name, target in run.track(functions(points[:, :1], points[:, 1:]).items(), "functions"):
        target = (target - target.mean()) / target.std()
        (x, x_test), (y, y_test) = points.split(settings.points), target.split(settings.points)
        model = network(settings.kind).to(run.device)
        optimizer = torch.optim.Adam(model.parameters(), settings.learning_rate)
        schedule = OneCycleLR(optimizer, settings.learning_rate, settings.steps)
        half = settings.steps // 2
        selection = BasisSelection(model, optimizer=optimizer) if settings.kind == "s-kan" else None
        for step in range(1, settings.steps + 1):
            optimizer.zero_grad()
            loss = mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            schedule.step()
            if selection and step == half:
                selection.select(x)
                selection.prune()
                for number, name_of_basis in enumerate(BASES):
                    share = float(np.mean([choice.basis == name_of_basis for choice in selection.choices]))
                    run.record(basis=number, share=share, on=name)
            if step % 20 == 0:
                run.record(step=step, error=float(loss.detach().sqrt()), function=name)
        with torch.no_grad():
            metrics[name] = 0.5 * math.log10(float(mse_loss(model(x_test), y_test)))
        metrics["parameters"] = float(sum(p.numel() for p in model.parameters()))
    metrics["mean"] = float(np.mean([metrics[name] for name in functions(points[:1, :1], points[:1, 1:])]))
    return metrics


def best_single(rows: Any) -> str:
    """The basis that is best on average, in hindsight."""
    return min(BASES, key=lambda basis: rows[basis]["mean"])


def regret(rows: Any, arm: str) -> float:
    """Largest distance from the best single basis, over the functions."""
    names = functions(torch.zeros(1, 1), torch.zeros(1, 1))
    return max(rows[arm][name] - min(rows[basis][name] for basis in BASES) for name in names)


ARMS = (*BASES, "s-kan")
AHEAD_OF_BEST = Quantity(
    "mean[best single − s-kan]", ARMS, lambda rows: rows[best_single(rows)]["mean"] - rows["s-kan"]["mean"]
)
AHEAD_OF_MEAN = Quantity(
    "mean[all single − s-kan]", ARMS,
    lambda rows: float(np.mean([rows[basis]["mean"] for basis in BASES])) - rows["s-kan"]["mean"],
)  # fmt: skip
LESS_REGRET = Quantity(
    "regret[best single − s-kan]", ARMS, lambda rows: regret(rows, best_single(rows)) - regret(rows, "s-kan")
)

STUDY = Study(
    paper=Paper("Activation Space Selectable Kolmogorov-Arnold Networks", "Yang et al.", 2024, arxiv="2408.08338"),
    trial=trial,
    arms={kind: Settings(kind) for kind in (*BASES, "s-kan", "random-choice", "mlp")},
    scales={
        "smoke": {"points": 50, "steps": 20},
        "paper": {"points": 10_000, "steps": 4000},
    },
    claims=[
        Claim("S-KAN is ahead of every single basis, on average over tasks", "abstract", AHEAD_OF_BEST > 0.03),
        Claim("S-KAN is ahead of a basis taken blindly", "abstract", AHEAD_OF_MEAN > 0.05),
        Claim("S-KAN evens out the ups and downs: its worst task costs less", "abstract", LESS_REGRET > 0),
        Claim("S-KAN is ahead of a perceptron", "abstract", difference("mean", "mlp", "s-kan") > 0.2),
        Claim(
            "It is the choosing that helps: ahead of random bases", "control of ours",
            difference("mean", "random-choice", "s-kan") > 0.03,
        ),
    ],
    figures=[
        Bars("log10 relative test error, mean of seven functions", metric="mean"),
        *(Bars(f"log10 relative test error: {n}", metric=n) for n in ("smooth", "high", "step", "peak", "bessel")),
        Curve("Which bases the nodes chose (0 to 4: spline, radial, Chebyshev, wavelet, Fourier)", ["s-kan"],
              x="basis", y="share", series="on"),
        Curve("S-KAN on the seven functions", ["s-kan"], x="step", y="error", series="function", log_y=True),
    ],
    seeds=(3, 4),
)  # fmt: skip
