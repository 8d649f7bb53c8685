"""Three plain networks on raw series are a strong baseline, and one of them shows where it looked.

Wang, Yan and Oates trained a multilayer perceptron, a fully convolutional network and a small residual network on 44
sets of the UCR archive, with no features, no cropping and nothing tuned per set. The convolutional one was as good as
the best of eleven methods (18 wins; mean per-class error .0219 against .0226 of the best ensemble), the residual one
close (8 wins, .0231); class activation maps name the part of a series that its class hangs on.

Small: Trace (100 + 100 series of 275 steps, 4 classes), GunPoint (50 + 150 of 150, 2) and ItalyPowerDemand (67 + 1,029
of 24, 2) in their published splits. The convolutional networks have a quarter of the published width (32-64-32 and
16-32-32 channels), the perceptron all 500 units. 60 epochs (Trace 40) of Adam in batches of 8, the rate falling along a
cosine: the paper halves it where the training loss has not fallen for 50 epochs, and takes 2,000. As in the paper the
weights of the lowest training loss are kept, and there is no validation part. The rate is the best of 1e-3 and 3e-3 for
each network, by training loss on seed 100. The maps are tested by deletion: over the test series that are classified
rightly, how much more the true score falls where the fifth of the series with the highest mean activation is set to the
training mean than where the fifth with the lowest is.

Paper: the published widths, epochs, rates and batches; Adadelta for the perceptron; any sets, or a folder of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from neurarium.data import Arrays, Batches, load_time_series
from neurarium.lab import Bars, Claim, Curve, Metrics, Paper, Run, Scatter, Study, all_of, difference, value
from neurarium.models import TimeSeriesFCN, TimeSeriesMLP, TimeSeriesResNet, train_time_series
from neurarium.probes import class_activation, window_deletion
from neurarium.training import evaluate, prediction


@dataclass(frozen=True)
class Settings:
    """What the arms and scales change; ``data`` may name folders of UCR files, searched for ``*_TRAIN`` files."""

    network: Literal["mlp", "fcn", "resnet"] = "fcn"
    data: tuple[str, ...] = ("trace", "gunpoint", "italy-power-demand")
    epochs: tuple[int, ...] = (40, 60, 60)
    width: float = 0.25
    learning_rate: float = 3e-3
    batch_size: int = 8
    schedule: Literal["cosine", "plateau"] = "cosine"
    synthetic: bool = False


@dataclass(frozen=True)
class Set:
    """Scaled series of one set."""

    name: str
    train: Arrays
    test: Arrays
    classes: int


def read(name: str, synthetic: bool) -> Set:
    """A set, scaled by the mean and deviation of its training part; or a stand-in of bumps under its name."""
    if synthetic:
        generator = torch.Generator().manual_seed(0)
        y = torch.arange(40) % 2
        x = torch.randn(40, 1, 32, generator=generator)
        x[:, 0, 8:16] += 3.0 * y[:, None]
        return Set(name, Arrays(x[:20], y[:20]), Arrays(x[20:], y[20:]), 2)
    split = load_time_series(name)
    mean, scale = split.train.x.mean(), split.train.x.std()
    train, test = (Arrays((part.x - mean) / scale, part.y) for part in (split.train, split.test))
    return Set(Path(name).stem.removesuffix("_TRAIN"), train, test, len(split.classes))


def expand(names: tuple[str, ...]) -> list[str]:
    """Folders replaced by the training files in them."""
    found: list[str] = []
    for name in names:
        folder = Path(name).expanduser()
        inside = sorted(str(p) for p in folder.rglob("*_TRAIN.*") if p.suffix in (".ts", ".tsv", ".txt"))
        found += inside if folder.is_dir() else [name]
    return found


def build(settings: Settings, channels: int, steps: int, classes: int) -> nn.Module:
    """The arm's network."""

    def wide(*published: int) -> list[int]:
        return [max(1, round(settings.width * size)) for size in published]

    if settings.network == "fcn":
        return TimeSeriesFCN(channels, classes, wide(128, 256, 128))
    if settings.network == "resnet":
        return TimeSeriesResNet(channels, classes, wide(64, 128, 128))
    return TimeSeriesMLP(channels, steps, classes)


def adadelta(parameters: object) -> torch.optim.Optimizer:
    """The paper's optimizer of the perceptron."""
    return torch.optim.Adadelta(parameters, lr=0.1, rho=0.95, eps=1e-8)  # type: ignore[arg-type]


def train(settings: Settings, model: nn.Module, data: Set, epochs: int, run: Run) -> None:
    """Fit one network to one set."""

    def adam(parameters: object) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, settings.learning_rate, fused=True)  # type: ignore[arg-type]

    def watch(epoch: int, loss: float) -> None:
        if epoch % max(1, epochs // 20) == 0:
            run.record(epoch=epoch, loss=max(loss, 1e-6), set=data.name)

    plateau = settings.schedule == "plateau"
    perceptron = settings.network == "mlp"
    train_time_series(
        model, data.train.x, data.train.y, epochs=epochs, batch_size=settings.batch_size, schedule=settings.schedule,
        optimizer=adadelta if plateau and perceptron else adam, patience=200 if perceptron else 50,
        floor=0.1 if perceptron else 1e-4, generator=torch.Generator().manual_seed(run.seed), watch=watch,
    )  # fmt: skip


def look(model: nn.Module, data: Set, run: Run) -> float:
    """Deletion gain over the rightly classified test series; records each class's mean map and mean series."""
    with torch.no_grad():
        right = prediction(model(data.test.x)).argmax(1) == data.test.y
    if not bool(right.any()):
        return float("nan")
    x, y = data.test.x[right], data.test.y[right]
    maps = class_activation(model, x).of(y)
    for label in y.unique().tolist():
        chosen = y == label
        mean, series = maps[chosen].mean(0), x[chosen, 0].mean(0)
        for step in range(0, len(mean), max(1, len(mean) // 60)):
            run.record(
                step=step, activation=float(mean[step]), value=float(series[step]),
                **{f"{data.name}_class": f"class {label}"},
            )  # fmt: skip
    return window_deletion(model, x, y).gain


def trial(settings: Settings, run: Run) -> Metrics:
    """One network on every set."""
    names = expand(settings.data)
    epochs = [*settings.epochs, *[settings.epochs[-1]] * len(names)]
    found: dict[str, float] = {}
    errors = []
    for name, passes in run.track(list(zip(names, epochs, strict=False)), "sets"):
        data = read(name, settings.synthetic)
        data = Set(data.name, data.train.to(run.device), data.test.to(run.device), data.classes)
        torch.manual_seed(run.seed)
        channels, steps = data.train.x.shape[1:]
        model = build(settings, channels, steps, data.classes).to(run.device)
        train(settings, model, data, passes, run)
        model.eval()
        key = data.name.replace("-", "_")
        found[f"error_{key}"] = 1 - evaluate(model, Batches(data.test, 128))
        errors.append(found[f"error_{key}"] / data.classes)
        found[f"parameters_{key}"] = float(sum(p.numel() for p in model.parameters()))
        if settings.network != "mlp":
            found[f"deletion_gain_{key}"] = look(model, data, run)
    return found | {"mpce": sum(errors) / len(errors)}


STUDY = Study(
    paper=Paper(
        "Time Series Classification from Scratch with Deep Neural Networks: A Strong Baseline",
        "Wang, Yan, Oates",
        2016,
        arxiv="1611.06455",
    ),
    trial=trial,
    arms={
        "mlp": Settings(network="mlp"),
        "fcn": Settings(network="fcn"),
        "resnet": Settings(network="resnet"),
    },
    scales={
        "smoke": {"synthetic": True, "epochs": (3, 3, 3)},
        "paper": {
            "data": (
                "trace", "gunpoint", "italy-power-demand", "arrowhead", "osuleaf", "acsf1", "basic-motions",
            ),
            "epochs": (2000,), "width": 1.0, "learning_rate": 1e-3, "batch_size": 0, "schedule": "plateau",
        },
    },
    claims=[
        Claim(
            "Convolutions over time beat a perceptron where the pattern may shift (Trace)",
            "Table 1",
            difference("error_trace", "mlp", "fcn") > 0.10,
            published="errors .18 against 0",
        ),
        Claim(
            "Over the sets the convolutional network beats the perceptron",
            "Table 1, MPCE",
            difference("mpce", "mlp", "fcn") > 0.01,
            published="MPCE of the convolutional network .0219 on 44 sets",
        ),
        Claim(
            "The residual network is close to the convolutional one",
            "Table 1, MPCE",
            abs(difference("mpce", "resnet", "fcn")) < 0.02,
            published="MPCE .0231 against .0219 on 44 sets",
        ),
        Claim(
            "Its class activation map names the part of a series that its class hangs on",
            "Fig. 4, by deletion",
            all_of(value("deletion_gain_trace", "fcn") > 0.3, value("deletion_gain_gunpoint", "fcn") > 0.3),
        ),
        Claim(
            "At a quarter of the width the errors on GunPoint and ItalyPowerDemand are near the published ones",
            "Table 1",
            all_of(value("error_gunpoint", "fcn") < 0.03, value("error_italy_power_demand", "fcn") < 0.06),
            published="errors 0 and .03",
        ),
    ],
    figures=[
        Bars("Mean per-class error", metric="mpce"),
        Curve(
            "Where the convolutional network sees each class of Trace (mean map of the true class)",
            x="step", y="activation", series="trace_class", arms=("fcn",),
            note="What a step adds to the score of the series' own class. The four kinds of transients differ in when, "
            "and in whether, the signal jumps.",
        ),
        Curve("The mean series of each class of Trace", x="step", y="value", series="trace_class", arms=("fcn",)),
        Curve(
            "Where it sees gun and point (GunPoint)", x="step", y="activation", series="gunpoint_class", arms=("fcn",)
        ),
        Curve("The mean series of gun and point", x="step", y="value", series="gunpoint_class", arms=("fcn",)),
        Curve("Training loss", x="epoch", y="loss", series="set", log_y=True),
        Scatter("Error on Trace against seconds of all three sets", x="seconds", y="error_trace"),
    ],
    seeds=(3, 3),
)  # fmt: skip
