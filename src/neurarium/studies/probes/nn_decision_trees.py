"""A network of linear pieces is a decision tree, exactly, and a small one once branches that no input reaches are cut.

Aytekin wrote networks with piecewise-linear activations as trees of half-space tests with affine leaves, showed it on
two hand-sized networks (a square, two half moons), and counted what tree and network take.

Small: the two networks of the paper; a wider one for the moons (2-8-8-1); one with a skip and batch norm; a
convolutional one for 8 x 8 digits, asked one image at a time (`local_affine`). `max_error` is the largest distance
between the tree's and the network's outputs in double precision on 10,000 points (100 test images). `cart` is the
control: a regression tree of scikit-learn with as many leaves as `moons-8`, fitted to 5,000 of that network's outputs.
`tanh-N` stands N straight lines for each tanh of a 1-3-1 network. Adam at 1e-2 for all (no claim rests on how well
they learn); the best of three starts by training loss, since networks of two units often die.

Paper: 20 starts, and leaf counts for widths 2 to 24. Departures: the paper's two trees were written down by hand, ours
come from the network; linear programmes that clean the tree, class leaves and `cart` are ours. The paper counts 25
multiplications and additions for the half-moon network, we count 20.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from neurarium.data import Arrays, Batches, load
from neurarium.lab import Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Study, all_of, difference, value
from neurarium.learning import Backprop
from neurarium.probes import NetworkTree, decision_tree, local_affine
from neurarium.training import fit

TANH = (4, 8, 16)


@dataclass(frozen=True)
class Settings:
    """What the arms and scales change."""

    task: Literal["square", "moons", "digits"] = "square"
    hidden: tuple[int, ...] = (2, 2)
    activation: Literal["leaky", "relu", "tanh"] = "relu"
    skip: bool = False
    surrogate: bool = False
    pieces: int = 0
    restarts: int = 3
    steps: int = 1500
    learning_rate: float = 1e-2
    points: int = 10_000
    widths: tuple[int, ...] = ()


class Skip(nn.Module):
    """A hidden layer with batch norm, added to what entered it."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(features, features), nn.BatchNorm1d(features)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(self.norm(self.linear(x)))


def network(settings: Settings, inputs: int) -> nn.Sequential:
    """The arm's network for vectors."""
    kinds: dict[str, Callable[[], nn.Module]] = {"leaky": lambda: nn.LeakyReLU(0.3), "relu": nn.ReLU, "tanh": nn.Tanh}
    activation = kinds[settings.activation]
    sizes = (inputs, *settings.hidden)
    if settings.skip:
        return nn.Sequential(nn.Linear(inputs, sizes[1]), nn.ReLU(), Skip(sizes[1]), nn.Linear(sizes[1], 1))
    layers = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), activation())]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], 1))


def examples(settings: Settings, run: Run) -> tuple[Arrays, float]:
    """Data, and half the width of the box on which the tree is grown."""
    draw = run.rng(1)
    if settings.task == "square":
        x = torch.from_numpy(draw.uniform(-2.5, 2.5, (5000, 1))).float()
        return Arrays(x, x.square()), 2.5
    from sklearn.datasets import make_moons

    points, labels = make_moons(1000, noise=0.1, random_state=run.seed)
    return Arrays(torch.from_numpy(points).float(), torch.from_numpy(labels).float()[:, None]), 3.0


def train(settings: Settings, run: Run, arrays: Arrays) -> nn.Sequential:
    """The best of some starts by its loss on all data."""
    loss = mse_loss if settings.task == "square" else binary_cross_entropy_with_logits
    found: list[tuple[float, nn.Sequential]] = []
    arrays = arrays.to(run.device)
    for start in run.track(range(settings.restarts), "starts"):
        model = network(settings, arrays.x.shape[1]).to(run.device)
        rule = Backprop(model, loss)
        optimizer = torch.optim.Adam(rule.parameters(), lr=settings.learning_rate)
        loader = Batches(arrays, 250, shuffle=True, seed=1000 * run.seed + start)
        fit(rule, loader, optimizer, epochs=max(settings.steps // len(loader), 1))
        model.eval()
        with torch.no_grad():
            found.append((float(loss(model(arrays.x), arrays.y)), model))
    return min(found, key=lambda pair: pair[0] if math.isfinite(pair[0]) else math.inf)[1]


def vectors(settings: Settings, run: Run) -> Metrics:
    """Train, grow the tree, compare."""
    arrays, reach = examples(settings, run)
    model = train(settings, run, arrays)
    pieces = settings.pieces or None
    tree = decision_tree(model, (-reach, reach), pieces=pieces, limits=(-4.0, 4.0))
    x = torch.from_numpy(run.rng(2).uniform(-reach, reach, (settings.points, arrays.x.shape[1])))
    classes = decision_tree(model, (-reach, reach), decisions="argmax") if settings.task == "moons" else tree
    if settings.surrogate:
        return {"max_error": surrogate_error(tree, x, run), "leaves": float(len(tree.leaves))}
    cost = classes.cost()
    for place, depth in enumerate(classes.depths().sort().values.tolist()):
        run.record(leaf=place, comparisons=depth)
    if settings.task == "moons" and run.seed == 0:
        picture(classes, run, reach)
    for width in settings.widths:
        record_width(width, run, reach)
    return {
        "max_error": tree.verify(x), "leaves": float(len(tree.leaves)), "naive": tree.naive,
        "kept": len(tree.leaves) / tree.naive, "class_leaves": float(len(classes.leaves)),
        "comparisons": cost.comparisons, "multiply_adds": cost.multiply_adds, "parameters": float(cost.parameters),
        "parameter_ratio": cost.parameters / cost.network_parameters, "programmes": float(tree.programmes),
        "log2_error": math.log2(max(tree.verify(x), 1e-300)),
    }  # fmt: skip


def surrogate_error(tree: NetworkTree, x: Tensor, run: Run) -> float:
    """Largest error of a fitted regression tree with as many leaves."""
    from sklearn.tree import DecisionTreeRegressor

    seen = torch.from_numpy(run.rng(3).uniform(-3, 3, (5000, x.shape[1])))
    fitted = DecisionTreeRegressor(max_leaf_nodes=max(len(tree.leaves), 2), random_state=run.seed)
    fitted.fit(seen.numpy(), tree.predict(seen)[:, 0].numpy())
    return float((torch.from_numpy(fitted.predict(x.numpy())) - tree.predict(x)[:, 0]).abs().max())


def picture(tree: NetworkTree, run: Run, reach: float) -> None:
    """The leaf at each point of a grid, as its place among the leaves."""
    line = torch.linspace(-0.99 * reach, 0.99 * reach, 40, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    sign = 2.0 * tree.predict(grid).double() - 1
    shade = 1 + (tree.leaf_of(grid) * 7 % 5).double()
    for (x, y), level in zip(grid.tolist(), (sign * shade).tolist()):
        run.record(x0=round(x, 3), x1=round(y, 3), cell=level)


def record_width(width: int, run: Run, reach: float) -> None:
    """Leaves of an untrained 2-w-w-1 network."""
    tree = decision_tree(network(Settings(hidden=(width, width)), 2), (-reach, reach))
    run.record(width=width, leaves=len(tree.leaves), series="cleaned")
    run.record(width=width, leaves=tree.naive, series="all patterns")


def digits(settings: Settings, run: Run) -> Metrics:
    """A convolutional network, one path of its tree for each test image."""
    data = load("digits").scaled()
    model = nn.Sequential(
        nn.Unflatten(1, (1, 8)), nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(64, 10),
    ).to(run.device)  # fmt: skip
    train_part = Arrays(data.train.x.reshape(-1, 8, 8), data.train.y).to(run.device)
    rule = Backprop(model, cross_entropy)
    loader = Batches(train_part, 64, shuffle=True, seed=run.seed)
    optimizer = torch.optim.Adam(rule.parameters(), lr=settings.learning_rate)
    fit(rule, loader, optimizer, epochs=max(settings.steps // len(loader), 1))
    x = data.test.x.reshape(-1, 8, 8)[: settings.points]
    found = local_affine(model, x)
    with torch.no_grad():
        wanted = model.cpu().double()(x.double())
    return {
        "max_error": float((found.outputs - wanted).abs().max()), "distinct": float(found.distinct),
        "margin": float(found.margin.median()),
    }  # fmt: skip


def trial(settings: Settings, run: Run) -> Metrics:
    """Vectors or images."""
    return digits(settings, run) if settings.task == "digits" else vectors(settings, run)


SQUARE = Settings(activation="leaky")
WIDE = Settings(task="moons", hidden=(8, 8))
ARMS = {
    "x2": dataclasses.replace(SQUARE, widths=(2, 4, 6, 8, 10)),
    "moons": Settings(task="moons"),
    "moons-8": WIDE,
    "residual": Settings(task="moons", hidden=(6,), skip=True),
    "digits-conv": Settings(task="digits", steps=600, points=100),
    "cart": dataclasses.replace(WIDE, surrogate=True),
    **{f"tanh-{n}": Settings(hidden=(3,), activation="tanh", pieces=n) for n in TANH},
}


# slope of the least-squares line through three evenly spaced points
SLOPE = (value("log2_error", f"tanh-{TANH[-1]}") - value("log2_error", f"tanh-{TANH[0]}")) / 2.0


def smoke(settings: Settings) -> Settings:
    """A few steps of each."""
    return dataclasses.replace(
        settings, steps=40, restarts=1, points=min(settings.points, 200), widths=settings.widths[:1]
    )


def paper_scale(settings: Settings) -> Settings:
    """The paper's two problems from more starts, and wider networks."""
    widths = tuple(range(2, 25, 2)) if settings.widths else ()
    return dataclasses.replace(settings, restarts=20, steps=10_000, widths=widths)


EXACT = ("x2", "moons", "moons-8", "residual", "digits-conv")
STUDY = Study(
    paper=Paper("Neural Networks are Decision Trees", "Aytekin", 2022, arxiv="2210.05189"),
    trial=trial,
    arms=ARMS,
    scales={"smoke": smoke, "paper": paper_scale},
    seeds=(4, 8),
    claims=[
        Claim(
            "The tree gives the network's outputs, with dense, convolutional, skip and normalisation layers",
            "Section 2",
            all_of(*(value("max_error", arm) < 1e-9 for arm in EXACT)),
            published="equivalent",
        ),
        Claim(
            "Most leaves belong to patterns that no input has, and go",
            "Section 3, Fig. 2",
            all_of(value("kept", "x2") < 0.5, value("kept", "moons-8") < 0.02),
            published="16 leaves become 5",
        ),
        Claim(
            "A prediction takes less in the tree than in the network: the square (network 4 and 16)",
            "Table 1",
            all_of(value("comparisons", "x2") < 3.5, value("multiply_adds", "x2") < 16),
            published="2.6 comparisons, 2 multiplications and additions",
        ),
        Claim(
            "A prediction takes less in the tree than in the network: half moons (network 5 and 20)",
            "Table 1",
            all_of(value("comparisons", "moons") < 5, value("multiply_adds", "moons") < 20),
            published="4.1 comparisons, 8.2 multiplications and additions",
        ),
        Claim(
            "A tree that is fitted to the network, with as many leaves, is not the network",
            "our control",
            difference("max_error", "cart", "moons-8") > 0.05,
        ),
        Claim(
            "Lines in place of a smooth activation make the tree as near as one likes (log2 error over log2 pieces)",
            "Section 2.3",
            SLOPE < -1.5,
        ),
    ],
    figures=[
        Curve(
            "Leaves of untrained 2-w-w-1 networks: those that inputs reach, and all patterns", x="width", y="leaves",
            series="series", log_y=True, arms=("x2",),
        ),
        Heatmap(
            "The cells of the tree over the two moons, seed 0", x="x0", y="x1", value="cell",
            arms=("moons-8", "moons", "residual"), note="Sign: the class. Strength: which leaf.",
        ),
        Curve("Comparisons to reach each leaf", x="leaf", y="comparisons", arms=("x2", "moons", "moons-8", "residual")),
        Bars("Largest error", metric="log2_error", arms=tuple(f"tanh-{n}" for n in TANH),
             note="log2 of the largest distance between the tree of lines and the tanh network"),
        Bars("Parameters of the tree over the network's", metric="parameter_ratio"),
    ],
)  # fmt: skip
