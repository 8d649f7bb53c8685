"""Knowing the symmetry does not make a target learnable by gradients.

Kiani et al. built families of symmetric functions (for graph networks, convolutions, frame averages, polynomials) whose
members are uncorrelated and so many that every learner from correlations, gradient descent among them, needs more than
polynomially many queries. Their symmetric students did not beat the trivial predictor on them.

Small: parities of k = 2, 4, 6 of 16 coordinates, through rectifiers, summed over cyclic shifts, of variance 1; a
convolutional student (256 channels, all shifts averaged) and a network of 1,024 units without it, both by Adam
at 3e-3 on fresh batches of 256, 600 steps, R² on 3,000 fresh inputs. Parities of the degrees of 4, 8 and 12 stars in a
graph, with a graph network of 64 units, 600 steps of batches of 64, beside elimination over the field of two elements
on 40 examples. All 22 orbits of 4 of 10 coordinates, correlated on 20,000 inputs. The gradient signal is the variance,
over 6 random members of the family, of the student's expected gradient before training. Rates and steps were tried on
seed 100. Paper scale: 32 coordinates, 20,000 steps. Departures: the graphs are unions of stars, which makes the paper's
family exactly orthonormal and runnable; the paper's figures were not at hand, so no number is compared.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from neurarium.data import cyclic_shifts, degree_counts, degree_parity, subset_parity
from neurarium.lab import Arm, Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Study, all_of, difference, value
from neurarium.models import GraphSumNet, GroupAveraged
from neurarium.theory import correlation_matrix, csq_lower_bound, gradient_signal, solve_parity


@dataclass(frozen=True)
class Coordinates:
    """A parity of some coordinates, summed over cyclic shifts."""

    subset: tuple[int, ...] = (0, 1)
    n: int = 16
    symmetric: bool = True
    units: int = 256
    steps: int = 600
    learning_rate: float = 3e-3
    test: int = 3000
    signal_targets: int = 6
    signal_inputs: int = 4000


@dataclass(frozen=True)
class Degrees:
    """A parity of degrees."""

    bits: int = 4
    width: int = 64
    steps: int = 600
    learning_rate: float = 3e-3
    batch: int = 64
    test: int = 500
    examples: int = 40


@dataclass(frozen=True)
class Orbits:
    """A whole family of parities."""

    n: int = 10
    k: int = 4
    samples: int = 20_000


def student(settings: Coordinates) -> nn.Module:
    """One hidden layer, averaged over all shifts or not."""
    dense = nn.Sequential(nn.Linear(settings.n, settings.units), nn.ReLU(), nn.Linear(settings.units, 1))
    return GroupAveraged(dense, cyclic_shifts(settings.n)) if settings.symmetric else dense


def coordinates(settings: Coordinates, run: Run) -> Metrics:
    """Learn one member online; before that, see how much of the gradient depends on the member."""
    shifts = cyclic_shifts(settings.n)
    target = subset_parity(settings.n, settings.subset, shifts)
    generator = torch.Generator().manual_seed(run.seed)
    network = target.network.to(run.device)
    model = student(settings).to(run.device)
    others = []
    for _ in range(settings.signal_targets):
        subset = torch.randperm(settings.n, generator=generator)[: len(settings.subset)]
        others.append(subset_parity(settings.n, subset.tolist(), shifts))
        others[-1].network.to(run.device)
    inputs = target.sample(settings.signal_inputs, generator).to(run.device)
    signal = gradient_signal(model, mse_loss, others, inputs)
    x_test = target.sample(settings.test, generator).to(run.device)
    y_test = target(x_test)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    every = max(settings.steps // 20, 1)
    for step in run.track(range(1, settings.steps + 1)):
        x = target.sample(256, generator).to(run.device)
        optimizer.zero_grad()
        mse_loss(model(x)[:, 0], network(x)[:, 0]).backward()
        optimizer.step()
        if step % every == 0 or step == settings.steps:
            run.record(step=step, r2=r_squared(model, x_test, y_test))
    return {"r2": r_squared(model, x_test, y_test), "gradient_signal": signal.variance}


@torch.no_grad()
def r_squared(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of the targets' variance that is predicted."""
    return 1 - float(mse_loss(model(x)[:, 0], y) / y.var(correction=0))


def degrees(settings: Degrees, run: Run) -> Metrics:
    """A graph network by gradients, and elimination, on the parity of all degrees."""
    target = degree_parity(range(settings.bits), settings.bits)
    target.network.to(run.device)
    generator = torch.Generator().manual_seed(run.seed)

    def draw(count: int) -> tuple[Tensor, Tensor]:
        graphs = target.sample(count, generator).to(run.device)
        return graphs, (target(graphs) < 0).float()

    test, y_test = draw(settings.test)
    few, y_few = draw(settings.examples)
    found = solve_parity(degree_counts(few, settings.bits), y_few.long())
    guess = torch.zeros_like(y_test) if found is None else degree_counts(test, settings.bits)[:, found].sum(1) % 2
    model = GraphSumNet(settings.width).to(run.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    every = max(settings.steps // 20, 1)
    accuracy = math.nan
    for step in run.track(range(1, settings.steps + 1)):
        graphs, y = draw(settings.batch)
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(model(graphs)[:, 0], y).backward()
        optimizer.step()
        if step % every == 0 or step == settings.steps:
            with torch.no_grad():
                accuracy = float(((model(test)[:, 0] > 0) == y_test.bool()).double().mean())
            run.record(step=step, accuracy=accuracy)
    return {"accuracy": accuracy, "elimination": float((guess == y_test).double().mean())}


def orbits(settings: Orbits, run: Run) -> Metrics:
    """Correlations of all orbits, and the bound that follows for larger families."""
    shifts = cyclic_shifts(settings.n)
    subsets = torch.combinations(torch.arange(settings.n), settings.k)
    codes = (shifts[:, subsets].sort(2)[0] * settings.n ** torch.arange(settings.k)).sum(2)  # [shift, subset]
    firsts = (codes.argmin(0) == 0).nonzero().flatten()  # the shift by 0 gives the smallest code
    firsts = firsts[codes[0, firsts].argsort()]
    targets = [subset_parity(settings.n, subsets[i].tolist(), shifts) for i in firsts]
    for target in targets:
        target.network.to(run.device)
    generator = torch.Generator().manual_seed(run.seed)
    report = correlation_matrix(targets, targets[0].sample(settings.samples, generator).to(run.device))
    for i, row in enumerate(report.matrix.tolist()):
        for j, entry in enumerate(row):
            run.record(member=i, other=j, correlation=entry)
    for exponent in range(3, 11):
        n = 2**exponent
        even = exponent - exponent % 2  # k = log2 n keeps the network of polynomial size
        run.record(n=n, queries=csq_lower_bound(math.comb(n, even) / n, 1 / n))
    return {
        "orbits": len(targets),
        "largest_correlation": report.largest,
        "largest_in_errors": report.largest * settings.samples**0.5,
        "dimension": report.dimension(5 / settings.samples**0.5),
    }


STUDY = Study(
    paper=Paper(
        "On the hardness of learning under symmetries",
        "Kiani, Le, Lawrence, Jegelka, Weber",
        2024,
        arxiv="2401.01869",
    ),
    trial=None,
    arms={
        "cnn-2": Arm(coordinates, Coordinates()),
        "cnn-4": Arm(coordinates, Coordinates(subset=(0, 1, 4, 6))),
        "cnn-6": Arm(coordinates, Coordinates(subset=(0, 1, 3, 4, 7, 9))),
        "mlp-2": Arm(coordinates, Coordinates(symmetric=False, units=1024)),
        "gnn-4": Arm(degrees, Degrees()),
        "gnn-8": Arm(degrees, Degrees(bits=8)),
        "gnn-12": Arm(degrees, Degrees(bits=12)),
        "orbits": Arm(orbits, Orbits()),
    },
    scales={
        "smoke": {
            Coordinates: {"units": 16, "steps": 6, "test": 50, "signal_targets": 2, "signal_inputs": 40},
            Degrees: {"bits": 3, "steps": 6, "test": 50},
            Orbits: {"n": 6, "samples": 200},
        },
        "paper": {
            Coordinates: {"n": 32, "units": 1024, "steps": 20_000},
            Degrees: {"steps": 20_000},
            Orbits: {"n": 16, "samples": 200_000},
        },
    },
    claims=[
        Claim(
            "A convolutional student learns the easy target of its own class and not the hard one",
            "section 6",
            difference("r2", "cnn-2", "cnn-6") > 0.6,
        ),
        Claim(
            "The more coordinates in the parity, the less is learned",
            "sections 4, 6",
            all_of(difference("r2", "cnn-2", "cnn-4") > 0, difference("r2", "cnn-4", "cnn-6") > 0),
        ),
        Claim(
            "The symmetry does help where learning is possible",
            "control of ours",
            difference("r2", "cnn-2", "mlp-2") > 0.1,
        ),
        Claim(
            "A graph network fails on the parity of many degrees, which elimination learns from 40 graphs",
            "section 3",
            all_of(
                value("accuracy", "gnn-12") < 0.6,
                value("elimination", "gnn-12") > 0.99,
                difference("accuracy", "gnn-4", "gnn-12") > 0.15,
            ),
        ),
        Claim(
            "Members of different orbits are uncorrelated",
            "section 4",
            value("largest_in_errors", "orbits") < 5,
        ),
        Claim(
            "The part of the gradient that depends on the target falls with the size of the parity",
            "section 4",
            all_of(
                difference("gradient_signal", "cnn-2", "cnn-4") > 0, difference("gradient_signal", "cnn-4", "cnn-6") > 0
            ),
        ),
    ],
    figures=[
        Curve("What students learn of a parity", x="step", y="r2", arms=("cnn-2", "cnn-4", "cnn-6", "mlp-2")),
        Curve("What a graph network learns of a parity of degrees", x="step", y="accuracy"),
        Heatmap("Correlations of all orbits", x="other", y="member", value="correlation", arms=("orbits",)),
        Curve(
            "Queries needed, for tolerance 1/n and k about log2 n", x="n", y="queries", log_x=True, log_y=True,
            arms=("orbits",), note="More than polynomial: the line bends upwards.",
        ),
        Bars("Gradient signal before training", metric="gradient_signal", arms=("cnn-2", "cnn-4", "cnn-6", "mlp-2")),
    ],
    seeds=(3, 8),
)  # fmt: skip
