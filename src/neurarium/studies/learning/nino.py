"""A network that has watched other networks train jumps ahead in training, and saves optimizer steps.

The paper (Knyazev et al., 2024) trains a graph network once on recorded runs of small models; used once every 1,000
Adam steps, it forecasts the parameters up to 8,000 steps ahead. The abstract reports up to 50 % fewer steps to a
target on vision and language tasks, unseen and larger ones among them, and more than straight lines or networks
without the graph save.

Small: 24 runs of digit classifiers (64-a-b-10, six pairs of widths, four seeds each) with Adam at 3e-3, 1,000 steps of
64 examples, a snapshot every 10 steps. A learnt forecaster sees 500 batches of a window from each of four runs (a
second window of each gave the same errors on seed 100). It then jumps every 50 of 1,000 steps, 16 snapshots ahead at
first and one at the end, on three tasks: the family (64-16-16-10 from a new seed), a wider network (64-32-32-10), and a
convolutional network (8 and 16 channels) on MNIST at 14 x 14 pixels, of a kind it has never seen. A task's target is
Adam's own best loss within 60 % of its steps at the same seed, and the speed-up is the share of Adam's steps to that
loss that the jumps save; a step with a jump counts as a step. Best means the lowest so far, which never rises; where
the jumps cost steps the speed-up is minus the share that Adam saves of theirs, so it lies between -1 and 1, and a
target that is never reached counts as all 1,000 steps. It is measured on the validation loss and, because 1,259 digits
are learnt by heart and their validation loss soon stops falling, on the loss of 1,000 training examples too. The
prediction error is the mean absolute error of the scaled future parameters of three runs not trained on, over all
windows and horizons. Networks have 32 hidden units; NiNo has two layers of messages and updates edges after both, so
that both count. `nino-shuffled` sees the same parameters on edges whose ends are permuted over the graph. No setting
was tuned; what was seen on seed 100 is that validation losses stop falling, and that a target taken from another seed
is often out of reach for either run.

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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector

from neurarium.data import Batches, Split, Trajectory, TrajectoryDataset, future_error
from neurarium.lab import Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Study, all_of, difference, value
from neurarium.learning import Forecast, LinearNowcast, Nowcaster, Predictor, fit_forecaster
from neurarium.models import BoundForecaster, CausalTransformer, NiNo, WeightNowcast, load_released, neural_graph
from neurarium.models.weights._nino import BoundNiNo
from neurarium.studies.learning._nowcast_tasks import (
    TASKS,
    WIDTHS,
    classifier,
    task_data,
    task_model,
    train_together,
)


@dataclass(frozen=True)
class Settings:
    """``runs`` are recorded of each of ``widths`` members of a family; snapshots lie ``spacing`` steps apart."""

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
    slices: int = 1
    max_steps: int = 1000
    evaluate_every: int = 10
    batch_size: int = 64
    lr: float = 3e-3
    released: str = ""


def trial(settings: Settings, run: Run) -> Metrics:
    """Train a forecaster on recorded runs, measure its forecasts, and let it jump on three tasks."""
    metrics: dict[str, float] = {}
    predictor: Predictor | None = None
    if settings.predictor != "none":
        predictor = forecaster(settings, run)
        unseen = recorded(settings, [(0, run.seed + 500 + number) for number in range(3)], run.device)
        metrics["prediction_error"] = error(settings, predictor, unseen, run)
    if settings.predictor == "nino":
        draw_graph(run)
    overhead = 0.0
    for name in run.track(TASKS, "tasks"):
        data = task_data(settings.family, name).to(run.device)
        start = time.perf_counter()
        plain = jumping = watched(settings, task_model(settings.family, name, run.seed), data, run.seed, None)
        alone = time.perf_counter() - start
        if predictor is not None:
            model = task_model(settings.family, name, run.seed)
            jumping = watched(settings, model, data, run.seed, predictor)
            overhead += time.perf_counter() - start - 2 * alone
        for point in jumping:
            run.record(step=point.step, **{f"{name}_training": point.training, f"{name}_validation": point.validation})
        for loss in ("training", "validation"):
            metrics[f"{name}_{loss}_speedup"] = speedup(plain, jumping, loss, settings.max_steps)
            metrics[f"{name}_{loss}_loss"] = getattr(jumping[-1], loss)
    return metrics | {"overhead_seconds": overhead}


class Point(NamedTuple):
    """Of a run: the loss on the first 1,000 training examples and on held-out ones."""

    step: int
    training: float
    validation: float


def speedup(plain: Sequence[Point], jumping: Sequence[Point], loss: str, never: int) -> float:
    """Share saved of the steps to the best loss that a plain run has within 60 % of its steps, between -1 and 1.

    Where the jumps cost steps it is minus the share that the plain run saves of them.
    """
    target = min(getattr(point, loss) for point in plain if point.step <= 0.6 * never)
    alone, helped = (
        next((point.step for point in run if getattr(point, loss) <= target), never) for run in (plain, jumping)
    )
    return (alone - helped) / max(alone, helped)


def train(
    settings: Settings, model: nn.Module, data: Split, seed: int, predictor: Predictor | None = None
) -> Iterator[int]:
    """Train a model, with jumps if there is a predictor; yields the number of every step."""
    model.to(data.train.x.device)
    optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), settings.lr, fused=True)
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
        yield step


def watched(settings: Settings, model: nn.Module, data: Split, seed: int, predictor: Predictor | None) -> list[Point]:
    """Train a model; how it does every few steps."""
    points = []
    for step in train(settings, model, data, seed, predictor):
        if step % settings.evaluate_every == 0:
            with torch.no_grad():
                losses = (cross_entropy(model(part.x), part.y) for part in (data.train[:1000], data.validation))
                points.append(Point(step, *map(float, losses)))
    return points


def recorded(settings: Settings, members: Sequence[tuple[int, int]], device: str) -> list[Trajectory]:
    """Runs of members of the family, each given by its widths' number and its seed; a snapshot every few steps."""
    data = task_data(settings.family, "family").to(device)
    if settings.family == "digits":
        models = [classifier(WIDTHS[number], seed).to(device) for number, seed in members]
        states = train_together(
            models, data, [seed for _, seed in members], settings.max_steps, spacing=settings.spacing,
            batch_size=settings.batch_size, lr=settings.lr,
        )  # fmt: skip
        return list(map(Trajectory, models, states))
    runs = []
    for _, seed in members:
        model = task_model(settings.family, "family", seed).to(device)
        states = [parameters_to_vector(model.parameters()).detach().cpu()]
        for step in train(settings, model, data, seed):
            if step % settings.spacing == 0:
                states.append(parameters_to_vector(model.parameters()).detach().cpu())
        runs.append(Trajectory(model, torch.stack(states)))
    return runs


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
    members = [
        (number, run.seed + 1000 * (number + 1) + 10_000 * (again + 1))
        for number in range(settings.widths)
        for again in range(settings.runs)
    ]
    runs = recorded(settings, members, run.device)
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
        """The same permutation of the ends for every model of one shape."""
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
    """Scaled future states at every horizon, [parameters, horizon]."""
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
        Claim(
            "it saves steps to a validation loss where it was trained", "abstract",
            value("family_validation_speedup", "nino") > 0.1,
        ),
        Claim(
            "it saves steps to a validation loss on larger and other networks", "abstract",
            all_of(value("wide_validation_speedup", "nino") > 0.0, value("other_validation_speedup", "nino") > 0.0),
        ),
        Claim(
            "it saves steps to a training loss where it was trained", "our addition",
            value("family_training_speedup", "nino") > 0.1,
        ),
        Claim(
            "it saves steps to a training loss on larger and other networks", "our addition",
            all_of(value("wide_training_speedup", "nino") > 0.0, value("other_training_speedup", "nino") > 0.0),
        ),
    ],
    figures=[
        Curve("Where the parameters will be: error against horizon", x="horizon", y="horizon_error"),
        Curve("The family: training loss with a jump every 50 steps", x="step", y="family_training", log_y=True),
        Curve("Digits are few: validation loss stops falling", x="step", y="family_validation", log_y=True),
        Curve("A wider network, the same forecaster: training loss", x="step", y="wide_training", log_y=True),
        Curve("A convolutional network, the same forecaster: validation loss", x="step", y="other_validation"),
        Curve("Learning to forecast", x="meta_step", y="meta_loss", log_y=True),
        Bars("Share of Adam's steps saved in the family", metric="family_training_speedup"),
        Heatmap("The neural graph of a small transformer", arms=("nino",), x="target", y="source", value="kind"),
    ],
    seeds=(3, 3),
)  # fmt: skip
