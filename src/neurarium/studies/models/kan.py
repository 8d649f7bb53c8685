"""Kolmogorov-Arnold networks fit smooth functions better than multilayer perceptrons, and can be read as formulas.

Liu et al. put a trainable spline on every edge and only sums on the nodes. On functions with a known formula such
networks were more accurate than perceptrons of equal size (Fig. 2.3, 3.1), gained with every finer grid (the "stairs"
of Fig. 2.3) with an error that falls as the fourth power of the grid's size, gave back the formula after sparse
training, pruning and naming of the edges (Fig. 2.4), and forgot nothing where a task came in pieces (Fig. 3.4).

Small, in float64: (a) four functions of 2 to 10 variables from 1,000 points each, on grids of 3, 5 and 10 intervals
(10 L-BFGS steps on each) against the finest grid from the start and against perceptrons (two hidden layers, SiLU, as
many steps, the better on the test set of two widths, the smaller with at least the network's parameters: a choice in
the perceptron's favour). The mean is over three of the functions; the product ``xy`` is reported. (b) The formula of
exp(sin πx + y²) from four starts for each seed. (c) Five peaks on a line, learned one after the other, without base
function (with silu, whose weight is shared by all regions, the network forgets too). (d) One edge against J0(20x).
(e) Two real tables, for which the paper claims nothing. Steps, thresholds and penalty are the paper's or pykan's and
were not tuned. Paper: 3,000 points, grids to 100, twice the steps. Left out: the knot data and the Poisson equation.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from sklearn.datasets import load_diabetes, load_wine
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from neurarium.compression import KANPruning
from neurarium.lab import Arm, Bars, Claim, Curve, Metrics, Paper, Run, Study, difference, value
from neurarium.models import KAN, KANClassifier, KANRegressor, formula, snap, train_kan


def waves(x: Tensor) -> Tensor:
    """exp of the mean of sin² over ten variables."""
    return (torch.sin(math.pi * x / 2) ** 2).mean(1, keepdim=True).exp()


def nested(x: Tensor) -> Tensor:
    """A formula of four variables."""
    pairs = torch.sin(math.pi * x.square().unflatten(1, (2, 2)).sum(2))
    return (pairs.sum(1, keepdim=True) / 2).exp()


def curved(x: Tensor) -> Tensor:
    """exp(sin πx + y²)."""
    return torch.exp(torch.sin(math.pi * x[:, :1]) + x[:, 1:] ** 2)


FUNCTIONS = {
    "curved": (curved, (2, 5, 1)),
    "nested": (nested, (4, 4, 2, 1)),
    "waves": (waves, (10, 1, 1)),
    "product": (lambda x: x[:, :1] * x[:, 1:], (2, 2, 1)),
}


@dataclass(frozen=True)
class Fitting:
    """Functions with a formula."""

    network: Literal["kan", "mlp"] = "kan"
    grids: tuple[int, ...] = (3, 5, 10)
    points: int = 1000
    steps: int = 10


def rmse(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Root mean squared error."""
    with torch.no_grad():
        return float(mse_loss(model(x), y).sqrt())


def perceptron(inputs: int, width: int) -> nn.Module:
    """Two hidden layers of SiLU."""
    layers = nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1)
    return nn.Sequential(*layers).double()


def fitting(settings: Fitting, run: Run) -> Metrics:
    """Train on every function."""
    generator = torch.Generator().manual_seed(run.seed)
    metrics: dict[str, float] = {}
    steps = settings.steps * len(settings.grids)
    for name in run.track(FUNCTIONS, "functions"):
        function, widths = FUNCTIONS[name]
        x = torch.rand(2 * settings.points, widths[0], dtype=torch.float64, generator=generator) * 2 - 1
        x = x.to(run.device)
        (train, test), (y, y_test) = x.split(settings.points), function(x).split(settings.points)
        if settings.network == "mlp":
            size = sum(a * b for a, b in itertools.pairwise(widths)) * (settings.grids[-1] + 5)
            smaller = next(w for w in range(1, 999) if w * (w + widths[0] + 3) + 1 >= size)
            models = [perceptron(widths[0], width).to(run.device) for width in (smaller, 2 * smaller)]
            for model in models:
                train_kan(model, train, y, steps)
            metrics[name] = math.log10(min(rmse(model, test, y_test) for model in models))
            continue
        done, errors = 0, []
        network = KAN(widths, grid_size=settings.grids[0], dtype=torch.float64, device=run.device)
        for grid in settings.grids:
            network.refine(grid)
            for _ in range(settings.steps):
                loss = train_kan(network, train, y, 1, update_grid=done % 5 == 0)[0]
                run.record(step=done, train_error=math.sqrt(loss), test_error=rmse(network, test, y_test), on=name)
                done += 1
            errors.append(math.log10(rmse(network, test, y_test)))
        metrics |= {name: errors[-1], f"{name}_coarse": errors[0]}
    metrics["mean"] = float(np.mean([metrics[name] for name in list(FUNCTIONS)[:3]]))
    if settings.network == "kan":
        metrics["coarse"] = float(np.mean([metrics[f"{name}_coarse"] for name in list(FUNCTIONS)[:3]]))
    return metrics


@dataclass(frozen=True)
class Naming:
    """From data to a formula."""

    points: int = 1000
    starts: int = 4
    steps: int = 12


def naming(settings: Naming, run: Run) -> Metrics:
    """Sparse training, pruning, names, and how often the formula is right."""
    x = torch.rand(2 * settings.points, 2, dtype=torch.float64) * 2 - 1
    x = x.to(run.device)
    (train, test), (y, y_test) = x.split(settings.points), curved(x).split(settings.points)
    errors = []
    for _ in run.track(range(settings.starts), "starts"):
        network = KAN((2, 5, 1), dtype=torch.float64, device=run.device)
        train_kan(network, train, y, settings.steps, sparsity=0.01)
        network = KANPruning(0.1, 0.1).compress(network, [(train, y)])
        train_kan(network, train, y, settings.steps)
        named = snap(network, train)
        train_kan(named, train, y, settings.steps, update_grid=False)
        errors.append(rmse(named, test, y_test))
        run.artifact(f"formula-{len(errors)}.txt", str(formula(named, ["x", "y"])).encode())
    return {"found": float(np.mean([error < 1e-3 for error in errors])), "error": float(np.median(errors))}


@dataclass(frozen=True)
class Staying:
    """A function that comes in pieces."""

    network: Literal["kan", "mlp"] = "kan"
    base: bool = False
    peaks: int = 5
    steps: int = 500


def staying(settings: Staying, run: Run) -> Metrics:
    """Learn one peak after the other; the error over all of them in the end."""
    network: nn.Module
    if settings.network == "kan":
        base = "silu" if settings.base else None
        network = KAN((1, 1), grid_size=100, base_activation=base, dtype=torch.float64)
    else:
        network = perceptron(1, 30)
    network.to(run.device)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    x = torch.linspace(-1, 1, 100 * settings.peaks, dtype=torch.float64, device=run.device)[:, None]
    centres = -1 + (torch.arange(settings.peaks, device=run.device) + 0.5) * 2 / settings.peaks
    y = torch.exp(-300 * (x - centres).square()).sum(1, keepdim=True)
    for piece in run.track(range(settings.peaks), "peaks"):
        part = slice(100 * piece, 100 * (piece + 1))
        for _ in range(settings.steps):
            optimizer.zero_grad()
            mse_loss(network(x[part]), y[part]).backward()
            optimizer.step()
        seen = slice(0, 100 * (piece + 1))
        run.record(peak=piece + 1, error_so_far=rmse(network, x[seen], y[seen]))
    return {"error": rmse(network, x, y)}


@dataclass(frozen=True)
class Scaling:
    """The order of approximation."""

    grids: tuple[int, ...] = (20, 40, 80)
    points: int = 2000


def scaling(settings: Scaling, run: Run) -> Metrics:
    """One edge against J0(20x) on finer and finer grids: the slope of log error on log grid."""
    x = torch.rand(settings.points, 1, dtype=torch.float64) * 2 - 1
    x = x.to(run.device)
    y = torch.special.bessel_j0(20 * x)
    errors = []
    for grid in run.track(settings.grids, "grids"):
        network = KAN((1, 1), grid_size=grid, dtype=torch.float64, device=run.device)
        train_kan(network, x, y, 15, update_grid=False)
        errors.append(rmse(network, x, y))
        run.record(grid=grid, error_of_grid=errors[-1])
    return {"slope": float(np.polyfit(np.log(settings.grids), np.log(errors), 1)[0]), "finest": errors[-1]}


@dataclass(frozen=True)
class Tables:
    """Real data."""

    network: Literal["kan", "mlp"] = "kan"
    iterations: int = 10


def tables(settings: Tables, run: Run) -> Metrics:
    """R² on diabetes, accuracy on wine."""
    scores = {}
    regressor: type = KANRegressor if settings.network == "kan" else MLPRegressor
    classifier: type = KANClassifier if settings.network == "kan" else MLPClassifier
    for name, load, kind in (("diabetes", load_diabetes, regressor), ("wine", load_wine, classifier)):
        split = train_test_split(*load(return_X_y=True), test_size=0.3, random_state=run.seed)
        options = {"max_iter": settings.iterations} if settings.network == "kan" else {"max_iter": 2000}
        model = make_pipeline(StandardScaler(), kind(random_state=run.seed, **options)).fit(split[0], split[2])
        scores[name] = float(model.score(split[1], split[3]))
    return scores


STUDY = Study(
    paper=Paper("KAN: Kolmogorov-Arnold Networks", "Liu et al.", 2024, arxiv="2404.19756"),
    trial=None,
    arms={
        "kan": Arm(fitting, Fitting()),
        "kan-fixed": Arm(fitting, Fitting(grids=(10,), steps=30)),
        "mlp": Arm(fitting, Fitting(network="mlp")),
        "formula": Arm(naming, Naming()),
        "stay-kan": Arm(staying, Staying()),
        "stay-kan-silu": Arm(staying, Staying(base=True)),
        "stay-mlp": Arm(staying, Staying(network="mlp")),
        "one-edge": Arm(scaling, Scaling()),
        "tables-kan": Arm(tables, Tables()),
        "tables-mlp": Arm(tables, Tables(network="mlp")),
    },
    scales={
        "smoke": {
            Fitting: {"points": 60, "steps": 1}, Naming: {"points": 80, "starts": 1, "steps": 2},
            Staying: {"steps": 5}, Scaling: {"points": 200, "grids": (10, 20)}, Tables: {"iterations": 1},
        },
        "paper": {
            Fitting: {"points": 3000, "steps": 20, "grids": (3, 5, 10, 20, 50, 100)},
            Naming: {"points": 3000, "starts": 10, "steps": 20}, Scaling: {"grids": (20, 40, 80, 160)},
        },
    },
    claims=[
        Claim(
            "Kolmogorov-Arnold networks fit functions with a formula better than perceptrons of their size",
            "Fig. 2.3, 3.1", difference("mean", "mlp", "kan") > 0.3,
        ),
        Claim(
            "Every finer grid lowers the test error (10 intervals against 3)", "Fig. 2.3",
            value("coarse", "kan") - value("mean", "kan") > 0.4,
        ),
        Claim(
            "The error of a spline falls about as the fourth power of the grid's size", "Fig. 2.3, theorem 2.1",
            value("slope", "one-edge") < -3,
        ),
        Claim(
            "Sparse training, pruning and naming give the formula back in most runs", "Fig. 2.4",
            value("found", "formula") > 0.5,
        ),
        Claim(
            "Splines keep what was learned in other regions", "Fig. 3.4",
            difference("error", "stay-mlp", "stay-kan") > 0.2,
        ),
    ],
    figures=[
        Curve("Stairs: the test error falls with every finer grid", x="step", y="test_error", series="on", log_y=True),
        Curve("One edge on J0(20x)", x="grid", y="error_of_grid", log_x=True, log_y=True),
        Curve("The error over all peaks seen so far", x="peak", y="error_so_far"),
        Bars("log10 test error, mean of three functions", metric="mean"),
        Bars("log10 test error on the product xy", metric="product"),
        Bars("R² on diabetes", metric="diabetes"),
        Bars("Accuracy on wine", metric="wine"),
    ],
    seeds=(3, 4),
)  # fmt: skip
