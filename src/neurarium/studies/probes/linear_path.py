"""The training objective falls almost monotonically on the straight line from initial to final parameters.

Goodfellow, Vinyals and Saxe evaluated the objective at evenly spaced points between the parameters before the first
update and those after the last, for rectifier, sigmoid, maxout, convolutional and recurrent networks. They saw smooth
curves that fall from one end to the other, and a bump only on the line between two separately trained solutions; the
real path of SGD leaves the line and comes back to it. All their findings are pictures. Here each is a number: the
largest rise on the way down as a share of the whole descent (relative gap), the height above the chord between two
solutions (barrier), and the distance of the run from its line as a share of the line's length (residual ratio).

Small: 6,000 MNIST images, 600 steps of SGD with momentum (Adam for the LSTM), 29 alphas on 2,000 fixed training images
and 2,000 test images. ``no-learning`` ends at a random point, as far from the initial one as the trained rectifier
net's: the descent is not a property of any line. Each network is trained twice, from different initial values and in
another order, for the line between solutions, before and after the hidden units of one are put in the order that fits
the other best (`align_units`; not for the LSTM). Paper: full MNIST, maxout of 240 units with 5 pieces,
CIFAR-10 for the convolutional net. Departures: that net has rectifiers where the paper's has maxout, and the LSTM reads
the rows of images where the paper's reads text; the paper's deep Boltzmann machine is left out. Each
learning rate is that of the lowest mean training loss among three (.1, .03, .01; LSTM .006, .002, .0006) on the seeds
100 to 102.
"""

import copy
import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector

from neurarium.data import Batches, Split, load
from neurarium.lab import Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Study, all_of, value
from neurarium.layers import Maxout
from neurarium.learning import Backprop
from neurarium.probes import LossPath, Trajectory, TrajectoryRecorder, align_units, loss_along_line, loss_around_run
from neurarium.training import accuracy, fit

ASIDE = (-0.5, 0.0, 0.5, 1.0, 1.5)


@dataclass(frozen=True)
class Settings:
    """What the arms and scales change."""

    network: Literal["relu", "sigmoid", "maxout", "linear", "cnn", "lstm"] = "relu"
    learned: bool = True
    data: str = "mnist-small"
    images: int = 6000
    probed: int = 2000
    epochs: int = 10
    batch_size: int = 100
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.03
    hidden: int = 128
    pieces: int = 2
    every: int = 20
    points: int = 29


class RowLSTM(nn.Module):
    """Reads an image row by row and classifies from the last state."""

    def __init__(self, columns: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(columns, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(x)[0][:, -1])


def build(settings: Settings, shape: torch.Size) -> nn.Module:
    """The network for images of a shape ``[height, width]`` or ``[channels, height, width]``."""
    h, size = settings.hidden, shape.numel()
    if settings.network == "lstm":
        return RowLSTM(shape[-1], h)
    if settings.network == "cnn":
        channels = shape[0] if len(shape) == 3 else 1
        first, second = nn.Conv2d(channels, 8, 5, stride=2, padding=2), nn.Conv2d(8, 16, 3, stride=2, padding=1)
        side = -(-shape[-1] // 4)
        head = nn.Linear(16 * side * side, 10)
        image = nn.Unflatten(1, (channels, shape[-2])) if len(shape) == 2 else nn.Identity()
        return nn.Sequential(image, first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), head)
    if settings.network == "maxout":
        hidden = [Maxout(size, h, settings.pieces), Maxout(h, h, settings.pieces)]
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(h, 10))
    if settings.network == "linear":
        return nn.Sequential(nn.Flatten(), nn.Linear(size, h), nn.Linear(h, h), nn.Linear(h, h), nn.Linear(h, 10))
    act = nn.ReLU if settings.network == "relu" else nn.Sigmoid
    return nn.Sequential(nn.Flatten(), nn.Linear(size, h), act(), nn.Linear(h, h), act(), nn.Linear(h, 10))


def train(settings: Settings, data: Split, run: Run, order: int) -> tuple[nn.Module, nn.Module, Trajectory]:
    """A fresh network before and after training, and the way between."""
    model = build(settings, data.train.x.shape[1:]).to(run.device)
    start = copy.deepcopy(model)
    optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=settings.learning_rate, momentum=0.9)
    if settings.optimizer == "adam":
        optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    recorder = TrajectoryRecorder(model, every=settings.every)
    recorder.attach(optimizer)
    loader = Batches(data.train, settings.batch_size, shuffle=True, seed=order)
    for _ in run.track(range(settings.epochs), "epochs"):
        fit(Backprop(model, cross_entropy), loader, optimizer)
    return start, model, recorder.decompose()


def trial(settings: Settings, run: Run) -> Metrics:
    """Train, then look along the line, between two solutions, and around the run."""
    whole = load(settings.data)
    data = dataclasses.replace(whole, train=whole.train.subset(settings.images, seed=run.seed))
    data = data.scaled().to(run.device)
    fixed = Batches(data.train[: settings.probed], 500)
    unseen = Batches(data.test[: settings.probed], 500)
    start, end, walk = train(settings, data, run, order=run.seed)
    if not settings.learned:
        begin = parameters_to_vector(start.parameters()).detach()
        random = torch.randn(len(begin)).to(begin)
        nn.utils.vector_to_parameters(begin + random * (walk.distance / random.norm()), end.parameters())

    points = settings.points
    path = loss_along_line(start, cross_entropy, fixed, start, end, points=points, metric=accuracy)
    test = loss_along_line(start, cross_entropy, unseen, start, end, points=points, metric=accuracy)
    for i, alpha in enumerate(path.alpha):
        run.record(alpha=alpha, loss=path.loss[i], test_loss=test.loss[i], accuracy=accuracies(path)[i])
    metrics = {
        "gap": path.gap,
        "relative_gap": path.relative_gap,
        "test_relative_gap": test.relative_gap,
        "convex_share": path.convex_share,
        "relative_drop": 1 - path.loss[(path.alpha >= 0) & (path.alpha <= 1)].min() / path.ends[0],
        "final_loss": path.ends[1],
        "test_accuracy": accuracies(test)[test.alpha.tolist().index(1.0)],
    }
    if not settings.learned:
        return metrics

    _, second, _ = train(settings, data, run, order=run.seed + 1000)
    lines = {"as trained": second}
    if settings.network != "lstm":
        lines["units aligned"] = align_units(second, end, data.train.x[:16])
    for name, other in lines.items():
        between = loss_along_line(start, cross_entropy, fixed, end, other, points=points, metric=accuracy)
        metrics["barrier" if other is second else "aligned_barrier"] = between.barrier
        for i, alpha in enumerate(between.alpha):
            run.record(position=alpha, between=between.loss[i], line=name)

    around = loss_around_run(start, cross_entropy, [next(iter(fixed))], walk, scale=ASIDE)
    for t, step in enumerate(walk.step):
        run.record(step=step, progress=walk.relative_progress[t], residual=walk.relative_residual[t])
        for scale, row in zip(ASIDE, around.loss):
            run.record(update=step, aside=scale, log_loss=math.log10(max(row[t], 1e-12)))
    return metrics | {"max_residual": walk.max_residual_ratio, "final_residual": float(walk.relative_residual[-1])}


def accuracies(path: LossPath) -> list[float]:
    """The second metric of a path that has one."""
    return [] if path.metric is None else path.metric.tolist()


TRAINED = {
    "relu-mlp": Settings(),
    "sigmoid-mlp": Settings(network="sigmoid", learning_rate=0.1),
    "maxout-mlp": Settings(network="maxout"),
    "cnn": Settings(network="cnn"),
    "linear-deep": Settings(network="linear", learning_rate=0.01),
    "lstm": Settings(network="lstm", hidden=64, optimizer="adam", learning_rate=6e-3),
}


def paper_scale(settings: Settings) -> Settings:
    """Full sets, and the paper's widths where it gives them."""
    sizes = {"maxout": (240, 5), "lstm": (256, 2)}
    hidden, pieces = sizes.get(settings.network, (1024, 2))
    data, images = ("cifar10", 50_000) if settings.network == "cnn" else ("mnist", 60_000)
    return dataclasses.replace(
        settings, data=data, images=images, probed=10_000, epochs=20, hidden=hidden, pieces=pieces, every=300, points=57
    )


STUDY = Study(
    paper=Paper(
        "Qualitatively characterizing neural network optimization problems",
        "Goodfellow, Vinyals, Saxe",
        2014,
        arxiv="1412.6544",
    ),
    trial=trial,
    arms={**TRAINED, "no-learning": Settings(learned=False)},
    scales={"smoke": {"images": 300, "probed": 200, "epochs": 2, "hidden": 16, "every": 3}, "paper": paper_scale},
    claims=[
        Claim(
            "From initialisation to solution a feed-forward network meets no obstacle on the straight line",
            "section 3, Fig. 1-4",
            all_of(*(value("relative_gap", arm) < 0.02 for arm in ("relu-mlp", "maxout-mlp", "cnn", "linear-deep"))),
        ),
        Claim(
            "Between two independent solutions there is a barrier, far higher than any on the way to them",
            "section 3",
            all_of(
                *(value("barrier", arm) > 0.05 for arm in ("relu-mlp", "cnn")),
                *(value("barrier", arm) - value("gap", arm) * 5 > 0 for arm in ("relu-mlp", "cnn")),
            ),
        ),
        Claim(
            "The descent is learned: towards a random point as far away the loss does not fall by a fifth",
            "control of ours",
            value("relative_drop", "no-learning") < 0.2,
        ),
        Claim(
            "SGD leaves the straight line by a moderate distance and returns to it",
            "section 4",
            all_of(
                *(value("max_residual", arm) > 0.05 for arm in TRAINED),
                *(value("max_residual", arm) < 0.8 for arm in TRAINED),
                *(value("final_residual", arm) < 1e-6 for arm in TRAINED),
            ),
        ),
        Claim(
            "An LSTM shows the same shape, with minor exceptions", "section 3.3", value("relative_gap", "lstm") < 0.1
        ),
    ],
    figures=[
        Curve("The loss falls all the way from the initial (0) to the final parameters (1)", x="alpha", y="loss"),
        Curve("The same on a logarithmic axis: a narrow valley at the end", x="alpha", y="loss", log_y=True),
        Curve("The test loss has the same shape", x="alpha", y="test_loss"),
        Curve(
            "Between two solutions there is a bump; aligning the units lowers it",
            x="position",
            y="between",
            series="line",
            log_y=True,
        ),
        Curve("SGD strays from its line early, then comes back", x="progress", y="residual"),
        Heatmap(
            "The loss between the straight line (aside = 0) and the run (aside = 1)",
            x="update",
            y="aside",
            value="log_loss",
        ),
        Bars("Barrier between two solutions", metric="barrier"),
        Bars("Barrier after the hidden units are aligned", metric="aligned_barrier"),
    ],
    seeds=(3, 8),
)
