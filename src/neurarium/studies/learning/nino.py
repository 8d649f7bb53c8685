"""A network that has watched other networks train jumps ahead in training, and saves optimizer steps.

The paper (Knyazev et al., 2024) trains a graph network once on recorded runs of small models; used once every 1,000
Adam steps, it forecasts the parameters up to 8,000 steps ahead. The abstract reports up to 50 % fewer steps to a
target on vision and language tasks, unseen and larger ones among them, and more than straight lines or networks
without the graph save.

Small: 24 runs of digit classifiers (64-a-b-10, six pairs of widths, four seeds each) with Adam at 3e-3, 1,000 steps
of 64 examples, a snapshot every 10 steps. A learnt forecaster sees 500 batches of four runs with two windows each. It
then jumps every 50 of 1,000 steps, 16 snapshots ahead at first and one at the end, on three tasks: the family
(64-16-16-10 from a new seed), a wider network (64-32-32-10), and a convolutional network (8 and 16 channels) on MNIST
at 14 x 14 pixels, of a kind it has never seen. A task's target is Adam's own validation loss after 60 % of its steps
at the same seed, and the speed-up is the share of Adam's steps to that loss that the jumps save; a step with a jump
counts as a step. The prediction error is the mean absolute error of the scaled future parameters of three runs not
trained on, over all windows and horizons. Networks have 32 hidden units; NiNo has two layers of messages and updates
edges after both, so that both count. `nino-shuffled` sees the same parameters on edges whose ends are permuted over
the graph. Nothing was tuned; on seed 100 it was seen that a target taken from another seed is often out of reach for
either run, and the target became what it is.

Paper: 300 recorded runs of a convolutional network with 14,378 parameters on Fashion-MNIST, 200 steps between
snapshots, forecasters of the released size and 20,000 batches; then jumps every 1,000 of 10,000 steps on the same, on
one twice as wide, and on CIFAR-10. With ``--set released=FILE`` NiNo is the authors' network and is not trained (its
horizon is 40). The language tasks are left out: `neural_graph` and `Nowcaster` take their models, but their texts are
not to be had.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy
from torch.nn.utils import parameters_to_vector

from neurarium.data import Arrays, Batches, Split, Trajectory, TrajectoryDataset, future_error, load
from neurarium.lab import Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Study, all_of, difference, value
from neurarium.learning import Forecast, LinearNowcast, Nowcaster, Predictor, fit_forecaster
from neurarium.models import BoundForecaster, CausalTransformer, NiNo, WeightNowcast, load_released, neural_graph
from neurarium.models.nino import BoundNiNo

TASKS = ("family", "wide", "other")
WIDTHS = ((16, 16), (12, 16), (16, 12), (20, 16), (16, 20), (24, 24))


@dataclass(frozen=True)
class Settings:
    predictor: Literal["none", "line", "wnn+", "nino", "nino-shuffled"] = "none"
    family: Literal["digits", "fashion"] = "digits"
    runs: int = 4
    widths: int = 6
    spacing: int = 10
    context: int = 5
    horizon: int = 16
    hidden: int = 32
    layers: int = 2
    meta_steps: int = 500
    meta_rate: float = 3e-3
    slices: int = 2
    max_steps: int = 1000
    evaluate_every: int = 10
    batch_size: int = 64
    lr: float = 3e-3
    released: str = ""


def trial(settings: Settings, run: Run) -> Metrics:
    metrics: dict[str, float] = {}
    predictor: Predictor | None = None
    if settings.predictor != "none":
        predictor = forecaster(settings, run)
        unseen = [recorded(settings, 0, run.seed + 500 + number, run.device) for number in range(3)]
        metrics["prediction_error"] = error(settings, predictor, unseen, run)
    if settings.predictor == "nino":
        draw_graph(run)
    for name in run.track(TASKS, "tasks"):
        data = task_data(settings, name).to(run.device)
        plain = list(train(settings, task_model(settings, name, run.seed), data, run.seed))
        target = dict(plain)[int(0.6 * settings.max_steps)]
        start = time.perf_counter()
        model = task_model(settings, name, run.seed)
        jumping = list(train(settings, model, data, run.seed, predictor)) if predictor is not None else plain
        for step, loss in jumping:
            run.record(step=step, **{f"{name}_loss": loss})
        alone, helped = (arrival(curve, target, settings.max_steps) for curve in (plain, jumping))
        metrics |= {f"{name}_steps": helped, f"{name}_speedup": 1 - helped / alone, f"{name}_loss": jumping[-1][1]}
        metrics[f"{name}_seconds"] = time.perf_counter() - start
    return metrics


def arrival(curve: list[tuple[int, float]], target: float, never: int) -> int:
    """First step at which a loss is at most the target."""
    return next((step for step, loss in curve if loss <= target), never)


def train(
    settings: Settings, model: nn.Module, data: Split, seed: int, predictor: Predictor | None = None
) -> Iterator[tuple[int, float]]:
    """Train a model, with jumps if there is a predictor: (step, validation loss) every few steps."""
    model.to(data.train.x.device)
    optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), settings.lr)
    if predictor is not None:
        period = settings.context * settings.spacing
        optimizer = Nowcaster(optimizer, model, predictor, period=period, max_steps=settings.max_steps)
    epochs = itertools.repeat(Batches(data.train, settings.batch_size, shuffle=True, seed=seed))
    batches = itertools.chain.from_iterable(epochs)
    for step, (x, y) in enumerate(itertools.islice(batches, settings.max_steps), start=1):
        if not isinstance(optimizer, Nowcaster) or optimizer.needs_gradient:
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
        optimizer.step()
        if step % settings.evaluate_every == 0:
            with torch.no_grad():
                yield step, float(cross_entropy(model(data.validation.x), data.validation.y))


def task_model(settings: Settings, name: str, seed: int) -> nn.Module:
    """The network of a task with its initial weights."""
    torch.manual_seed(seed)
    if settings.family == "fashion":
        return convolutional(3 if name == "other" else 1, (32, 64, 64) if name == "wide" else (16, 32, 32))
    return convolutional(1, (8, 16)) if name == "other" else classifier((32, 32) if name == "wide" else (16, 16))


def classifier(widths: tuple[int, int]) -> nn.Module:
    first, second = widths
    return nn.Sequential(
        nn.Linear(64, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, 10)
    )  # fmt: skip


def convolutional(channels: int, widths: tuple[int, ...]) -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise((channels, *widths)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))


def task_data(settings: Settings, name: str) -> Split:
    """Images of a task; what is not trained on serves as validation."""
    if settings.family == "digits" and name != "other":
        split = load("digits").scaled().flat()
        held = Arrays(torch.cat([split.validation.x, split.test.x]), torch.cat([split.validation.y, split.test.y]))
        return dataclasses.replace(split, validation=held)
    split = load(("cifar10" if name == "other" else "fashion-mnist") if settings.family == "fashion" else "mnist-small")
    split = dataclasses.replace(split, validation=split.test[:1000]).scaled()
    if settings.family == "digits":
        return split.map_inputs(lambda x: avg_pool2d(x[:, None], 2))
    return split if name == "other" else split.map_inputs(lambda x: x[:, None])


def recorded(settings: Settings, number: int, seed: int, device: str) -> Trajectory:
    """One run of the family, a snapshot at the start and every few steps."""
    model = task_model(settings, "family", seed)
    if settings.family == "digits":
        model = classifier(WIDTHS[number])
    model.to(device)
    data = task_data(settings, "family").to(device)
    snapshots = [parameters_to_vector(model.parameters()).detach().cpu()]
    every = dataclasses.replace(settings, evaluate_every=settings.spacing)
    for _ in train(every, model, data, seed):
        snapshots.append(parameters_to_vector(model.parameters()).detach().cpu())
    return Trajectory(model, torch.stack(snapshots))


def forecaster(settings: Settings, run: Run) -> Predictor:
    """The arm's predictor, trained on recorded runs if it learns."""
    context, horizon = settings.context, settings.horizon
    if settings.predictor == "line":
        return LinearNowcast(context, horizon)
    if settings.released and settings.predictor == "nino":
        return load_released(settings.released)
    torch.manual_seed(run.seed)
    network: NiNo | WeightNowcast
    if settings.predictor == "wnn+":
        network = WeightNowcast(context, horizon, settings.hidden)
        shaped: Any = network
    else:
        network = NiNo(context, horizon, settings.hidden, settings.layers, final_edge_update=True)
        shaped = Shuffled(network) if settings.predictor == "nino-shuffled" else network
    runs = [
        recorded(settings, number, run.seed + 1000 * (number + 1) + 10_000 * (again + 1), run.device)
        for again in run.track(range(settings.runs), "recorded runs of each width")
        for number in range(settings.widths)
    ]
    losses = fit_forecaster(
        network.to(run.device), TrajectoryDataset(runs, context, horizon), steps=settings.meta_steps,
        learning_rate=settings.meta_rate, slices=settings.slices, bind=shaped.bind,
        generator=torch.Generator().manual_seed(run.seed),
    )  # fmt: skip
    for step in range(0, len(losses), 10):
        run.record(meta_step=step, meta_loss=float(np.mean(losses[step : step + 10])))
    return shaped


@dataclass
class Shuffled:
    """NiNo on graphs whose edges join the wrong neurons."""

    nino: NiNo

    def bind(self, model: nn.Module) -> BoundForecaster:
        graph = neural_graph(model).rewired(torch.Generator().manual_seed(0))
        return BoundNiNo(self.nino, model, [(graph, None)])


def error(settings: Settings, predictor: Predictor, runs: list[Trajectory], run: Run) -> float:
    """Mean absolute error of scaled forecasts over all windows and horizons of some runs."""
    data = TrajectoryDataset(runs, settings.context, settings.horizon)
    bound = predictor.bind(runs[0].model)
    totals, counts = np.zeros(settings.horizon), np.zeros(settings.horizon)
    for window in data:
        found = future_error(forecasts(bound, window.past, settings.horizon), window).numpy()
        totals[: len(found)] += found
        counts[: len(found)] += 1
    for k, mean in enumerate(totals / counts, start=1):
        run.record(horizon=k, horizon_error=mean)
    return float(totals.sum() / counts.sum())


def draw_graph(run: Run) -> None:
    """The adjacency matrix of a small transformer, its kinds of edges as colours."""
    graph = neural_graph(
        CausalTransformer(num_tokens=8, d_model=8, nhead=2, num_layers=1, dim_feedforward=16, context=4)
    )
    for (source, target), kind in zip(graph.edge_index.T.tolist(), graph.edge_type.tolist()):
        run.record(source=source, target=target, kind=kind)


@torch.no_grad()
def forecasts(bound: Forecast, past: Tensor, horizon: int) -> Tensor:
    if isinstance(bound, BoundForecaster):
        return bound.forecasts(past[None])[0][:, :horizon]
    return torch.stack([bound.predict(past, k) for k in range(1, horizon + 1)], dim=1)


def paper_sizes(settings: Settings) -> Settings:
    """The paper's sizes."""
    return dataclasses.replace(
        settings, family="fashion", runs=300, widths=1, spacing=200, horizon=40, hidden=128, layers=3, slices=4,
        meta_steps=20_000, max_steps=10_000, evaluate_every=50, batch_size=128, lr=6e-3,
    )  # fmt: skip


STUDY = Study(
    paper=Paper(
        "Accelerating Training with Neuron Interaction and Nowcasting Networks", "Knyazev et al.", 2024, "2409.04434"
    ),
    trial=trial,
    arms={
        "adam": Settings(),
        "linefit": Settings(predictor="line"),
        "wnn+": Settings(predictor="wnn+"),
        "nino": Settings(predictor="nino"),
        "nino-shuffled": Settings(predictor="nino-shuffled"),
    },
    scales={
        "smoke": {
            "runs": 1, "widths": 1, "spacing": 2, "horizon": 3, "hidden": 8, "meta_steps": 3, "max_steps": 40,
            "evaluate_every": 2,
        },
        "small": {},
        "paper": paper_sizes,
    },
    claims=[
        Claim(
            "it forecasts better than straight lines", "Sec. 5",
            difference("prediction_error", "nino", "linefit") < 0.0,
        ),
        Claim(
            "it forecasts better than networks without the graph", "Sec. 5",
            difference("prediction_error", "nino", "wnn+") < 0.0,
        ),
        Claim(
            "it is the graph of the neurons that helps", "Sec. 5",
            difference("prediction_error", "nino", "nino-shuffled") < 0.0,
        ),
        Claim("it saves steps where it was trained", "abstract", value("family_speedup", "nino") > 0.1),
        Claim(
            "it saves steps on larger and other networks", "abstract",
            all_of(value("wide_speedup", "nino") > 0.0, value("other_speedup", "nino") > 0.0),
        ),
    ],
    figures=[
        Curve("Where the parameters will be: error against horizon", x="horizon", y="horizon_error"),
        Curve("The family: validation loss with a jump every 50 steps", x="step", y="family_loss", log_y=True),
        Curve("A wider network: the same forecaster", x="step", y="wide_loss", log_y=True),
        Curve("A convolutional network: the same forecaster", x="step", y="other_loss", log_y=True),
        Curve("Learning to forecast", x="meta_step", y="meta_loss", log_y=True),
        Bars("Share of Adam's steps saved in the family", metric="family_speedup"),
        Heatmap("The neural graph of a small transformer", arms=("nino",), x="target", y="source", value="kind"),
    ],
    seeds=(3, 3),
)  # fmt: skip
