"""Elastic weight consolidation keeps old tasks that plain SGD forgets.

The paper (Kirkpatrick et al., 2017) trains one network on tasks in turn and holds each weight with a spring as stiff as
its Fisher information on earlier tasks. On permuted MNIST plain SGD forgets, equal springs (L2) stop the network from
learning, and EWC does neither; ten tasks stay near single-task accuracy while SGD with dropout falls. Tasks that look
different share little Fisher information near the input and more near the output, and noise on the weights hurts less
where that information is small. Its Atari results need months of frames; a small game stands in for them.

Small: ten permutations of 6,000 images, a 784-200-200-10 network, SGD with momentum, two epochs per task. (Five tasks
of three epochs were looked at first, on seed 100: plain SGD ends at 0.81 there, the best L2 at 0.84 and the best EWC at
0.87, a lead over SGD of 0.06 and so below the margin of 0.08; the margins stayed, the stream got longer.) All arms of a
seed share permutations, first weights and order of batches; ``joint`` sees all tasks at once for as many steps. The
strengths of ``l2`` (of 3e-4, 1e-3, 3e-3 and 1e-2) and ``ewc`` (of 1, 3, 10, 30 and 100) are the best by mean accuracy
on seed 100, outside the seeds that are run; ``ewc-online`` uses that of ``ewc``. ``dropout`` keeps each task's best
epoch on held-out images. ``overlap-8`` and ``overlap-26`` learn MNIST and then a copy with a central square permuted;
``noise`` perturbs a network trained on one task; ``strengths`` runs EWC over a range of strengths; the ``split`` arms
learn two digits at a time with one shared head, where EWC is known to fail, and carry no claim. Paper: ten tasks of
50,000 images, 20 epochs each.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.continual import EWC, Finetune, L2Anchor, Strategy
from neurarium.data import Arrays, Batches, Split, load, permuted_square, permuted_stream, split_stream
from neurarium.lab import Bars, Claim, Curve, Metrics, Paper, Run, Scatter, Study, difference, value
from neurarium.learning import Backprop
from neurarium.probes import fisher_diagonal, fisher_overlap, perturbation_curve
from neurarium.studies.continual import _catch
from neurarium.training import evaluate, fit


@dataclass(frozen=True)
class Settings:
    """What an arm does and with which numbers."""

    experiment: Literal["stream", "split", "joint", "overlap", "noise", "strengths", "catch"] = "stream"
    strategy: Literal["sgd", "l2", "ewc", "ewc-online"] = "sgd"
    strength: float = 0.0  # lambda
    dropout: bool = False  # and early stopping
    data: str = "mnist-small"
    images: int = 6_000
    test_images: int = 2_000
    tasks: int = 10
    epochs: int = 2
    hidden: tuple[int, ...] = (200, 200)
    lr: float = 0.01
    momentum: float = 0.9
    batch_size: int = 64
    square: int = 8  # side of the permuted square, "overlap" only
    noise: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)  # its length over that of the weights
    sweep: tuple[float, ...] = (0.3, 3.0, 30.0, 300.0)  # strengths, "strengths" only
    updates: int = 1_500  # per game, "catch" only


def trial(settings: Settings, run: Run) -> Metrics:
    """The arm's experiment."""
    if settings.experiment == "catch":
        return catch(settings, run)
    split = images(settings, run)
    if settings.experiment == "overlap":
        return overlap(settings, run, split)
    if settings.experiment == "noise":
        return noise(settings, run, split)
    if settings.experiment == "split":
        return learn(settings, run, split_stream(split, 2))
    stream = permuted_stream(split, settings.tasks, seed=run.seed)
    if settings.experiment == "strengths":
        return strengths(settings, run, stream)
    return joint(settings, run, stream) if settings.experiment == "joint" else learn(settings, run, stream)


def images(settings: Settings, run: Run) -> Split:
    """Standardised training, held-out (a sixth as many) and test images as vectors."""
    whole = load(settings.data).scaled().to(run.device)
    held_out = settings.images // 6
    drawn = whole.train.subset(min(settings.images + held_out, len(whole.train)), seed=run.seed)
    test = whole.test.subset(min(settings.test_images, len(whole.test)), seed=run.seed)
    split = dataclasses.replace(whole, train=drawn[held_out:], validation=drawn[:held_out], test=test)
    return split if settings.experiment == "overlap" else split.flat()


def network(settings: Settings, inputs: int = 784) -> nn.Sequential:
    """Fully connected ReLU network; with dropout 0.2 of the inputs and 0.5 of the hidden units."""
    layers: list[nn.Module] = [nn.Dropout(0.2)] if settings.dropout else []
    for width in settings.hidden:
        layers += [nn.Linear(inputs, width), nn.ReLU(), *([nn.Dropout(0.5)] if settings.dropout else [])]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, 10))


def strategy_for(settings: Settings, model: nn.Module) -> Strategy:
    """What the arm does against forgetting."""
    match settings.strategy:
        case "sgd":
            return Finetune(model)
        case "l2":
            return L2Anchor(model, strength=settings.strength)
        case "ewc":
            return EWC(model, strength=settings.strength)
        case "ewc-online":
            return EWC(model, strength=settings.strength, mode="online")


def sgd(settings: Settings, model: nn.Module) -> torch.optim.SGD:
    """The optimizer, new for every task."""
    return torch.optim.SGD(model.parameters(), lr=settings.lr, momentum=settings.momentum)


def learn(settings: Settings, run: Run, stream: Sequence[Split], record: bool = True) -> dict[str, float]:
    """The tasks in turn; accuracy on every task so far after every epoch."""
    model = network(settings).to(run.device)
    strategy, rule = strategy_for(settings, model), Backprop(model, cross_entropy)
    table: list[list[float]] = []
    epochs = [(t, e) for t in range(len(stream)) for e in range(settings.epochs)]
    best, kept = -1.0, copy.deepcopy(model.state_dict())
    for step, (task, epoch) in enumerate(run.track(epochs, "epochs"), start=1):
        train = Batches(
            stream[task].train, settings.batch_size, shuffle=True, seed=1000 * run.seed + len(epochs) + step
        )
        if epoch == 0:
            strategy.begin_task(task)
            optimizer, best = sgd(settings, model), -1.0
        fit(rule, train, optimizer, penalties=[strategy.penalty])
        last = epoch == settings.epochs - 1
        if settings.dropout:  # early stopping: the epoch that is best on held-out images of the task
            score = evaluate(model, Batches(stream[task].validation, 1000))
            if score > best:
                best, kept = score, copy.deepcopy(model.state_dict())
            if last:
                model.load_state_dict(kept)
        if last:
            strategy.end_task(Batches(stream[task].train, 500))
        if last or record:
            scores = [accuracy(model, stream[t].test) for t in range(task + 1)]
            table += [scores] if last else []
            for t, score in enumerate(scores):
                if record:
                    run.record(epoch=step, task=f"task {t + 1}", accuracy=score)
    final = table[-1]
    if record:
        for t, row in enumerate(table):
            run.record(tasks=t + 1, mean_accuracy=sum(row) / len(row))
    peaks = [max(row[t] for row in table[t:]) for t in range(len(final) - 1)]
    return {
        "accuracy": sum(final) / len(final),
        "first_task_accuracy": final[0],
        "last_task_accuracy": final[-1],
        "learned_accuracy": sum(row[t] for t, row in enumerate(table)) / len(table),
        "forgetting": sum(p - f for p, f in zip(peaks, final)) / max(1, len(peaks)),
    }


def joint(settings: Settings, run: Run, stream: Sequence[Split]) -> dict[str, float]:
    """All tasks at once: what one network could do if nothing had to be remembered."""
    model = network(settings).to(run.device)
    together = Arrays(torch.cat([s.train.x for s in stream]), torch.cat([s.train.y for s in stream]))
    optimizer, rule = sgd(settings, model), Backprop(model, cross_entropy)
    train = Batches(together, settings.batch_size, shuffle=True, seed=run.seed)
    for epoch in run.track(range(settings.epochs), "epochs"):
        fit(rule, train, optimizer)
        scores = [accuracy(model, s.test) for s in stream]
        for t, score in enumerate(scores):
            run.record(epoch=(epoch + 1) * len(stream), task=f"task {t + 1}", accuracy=score)
    mean = sum(scores) / len(scores)
    return {"accuracy": mean, "first_task_accuracy": scores[0], "last_task_accuracy": scores[-1]}


def strengths(settings: Settings, run: Run, stream: Sequence[Split]) -> dict[str, float]:
    """EWC from too weak to too strong: what it keeps of the first task, and what it still learns of the last."""
    found = {}
    for strength in run.track(settings.sweep, "strengths"):
        torch.manual_seed(run.seed)
        found = learn(dataclasses.replace(settings, strength=strength), Run(run.seed, run.device), stream, record=False)
        run.record(strength=strength, share_correct=found["first_task_accuracy"], of="first task, kept")
        run.record(strength=strength, share_correct=found["last_task_accuracy"], of="last task, learned")
    return {"last_task_accuracy_at_strongest": found["last_task_accuracy"]}


def overlap(settings: Settings, run: Run, split: Split) -> dict[str, float]:
    """Fisher overlap by layer of MNIST and MNIST with a permuted central square, both learned in turn with EWC."""
    model = network(settings).to(run.device)
    rule, ewc, found = Backprop(model, cross_entropy), EWC(model, strength=settings.strength, fisher="exact"), []
    stream = [split.flat(), permuted_square(split, settings.square, seed=run.seed).flat()]
    for task, part in enumerate(run.track(stream, "tasks")):
        ewc.begin_task(task)
        train = Batches(part.train, settings.batch_size, shuffle=True, seed=run.seed)
        fit(rule, train, sgd(settings, model), epochs=settings.epochs, penalties=[ewc.penalty])
        ewc.end_task(Batches(part.train, 500))
    for part in stream:  # at the same weights: those that solve both tasks
        found.append(fisher_diagonal(model, Batches(part.train, 500), "exact"))
    shared = list(fisher_overlap(*found).layers.values())
    for depth, share in enumerate(shared, start=1):
        run.record(layer=depth, overlap=share)
    return {"overlap_first_layer": shared[0], "overlap_last_layer": shared[-1], "accuracy": accuracy(model, part.test)}


def noise(settings: Settings, run: Run, split: Split) -> dict[str, float]:
    """Noise of equal length on a trained network's weights, shaped in three ways."""
    model = network(settings).to(run.device)
    train = Batches(split.train, settings.batch_size, shuffle=True, seed=run.seed)
    fit(Backprop(model, cross_entropy), train, sgd(settings, model), epochs=settings.epochs)
    fisher = fisher_diagonal(model, Batches(split.train, 500), "exact")
    metrics = {}
    for kind in ("uniform", "inverse-fisher", "null-space"):
        draws = torch.Generator().manual_seed(run.seed)
        curve = perturbation_curve(model, fisher, Batches(split.test, 1000), settings.noise, kind, generator=draws)
        for size, score in zip(curve.scales, curve.scores):
            run.record(noise=size, score=score, kind=kind)
        metrics[f"accuracy_under_{kind.replace('-', '_')}_noise"] = curve.scores[-1]
    return metrics


def catch(settings: Settings, run: Run) -> dict[str, float]:
    """Three games in turn, each the same game with its pixels in another order; the mean return over all at the end."""
    model = _catch.q_network(64, tasks=3)
    strategy = (
        EWC(model, "gaussian", strength=settings.strength, fisher="exact")
        if settings.strategy == "ewc"
        else Finetune(model)
    )
    orders = [torch.randperm(_catch.ROWS * _catch.COLUMNS) for _ in range(3)]
    for task, order in enumerate(run.track(orders, "games")):
        _catch.play(strategy, task, order, games=64, updates=settings.updates, lr=1e-3, seed=run.seed)
        returns = [_catch.mean_return(strategy, t, orders[t]) for t in range(task + 1)]
        for t, score in enumerate(returns):
            run.record(games_learned=task + 1, game=f"game {t + 1}", mean_return=score)
    return {"mean_return": sum(returns) / len(returns), "first_game_return": returns[0]}


def accuracy(model: nn.Module, arrays: Arrays) -> float:
    """Share of the examples that are right."""
    return evaluate(model, Batches(arrays, 1000))


def paper_scale(settings: Settings) -> Settings:
    """All of MNIST and twenty epochs a task."""
    return dataclasses.replace(settings, data="mnist", images=50_000, test_images=10_000, epochs=20, hidden=(400, 400))


LAYERS_OF_100 = (100, 100, 100, 100)
STUDY = Study(
    paper=Paper("Overcoming catastrophic forgetting in neural networks", "Kirkpatrick et al.", 2017, "1612.00796"),
    trial=trial,
    arms={
        "sgd": Settings(),
        "l2": Settings(strategy="l2", strength=1e-3),
        "ewc": Settings(strategy="ewc", strength=3.0),
        "ewc-online": Settings(strategy="ewc-online", strength=3.0),
        "dropout": Settings(dropout=True),
        "joint": Settings(experiment="joint"),
        "overlap-8": Settings(
            experiment="overlap", strategy="ewc", strength=3.0, square=8, hidden=LAYERS_OF_100, epochs=3
        ),
        "overlap-26": Settings(
            experiment="overlap", strategy="ewc", strength=3.0, square=26, hidden=LAYERS_OF_100, epochs=3
        ),
        "noise": Settings(experiment="noise", epochs=3),
        "strengths": Settings(experiment="strengths", strategy="ewc", tasks=4),
        "split-sgd": Settings(experiment="split"),
        "split-ewc": Settings(experiment="split", strategy="ewc", strength=3.0),
        "catch-adam": Settings(experiment="catch"),
        "catch-ewc": Settings(experiment="catch", strategy="ewc", strength=1.0),
    },
    scales={
        "smoke": {
            "images": 240, "test_images": 100, "tasks": 2, "epochs": 1, "hidden": (20, 20), "sweep": (1.0, 10.0),
            "updates": 20,
        },
        "small": {},
        "paper": paper_scale,
    },
    claims=[
        Claim(
            "over ten tasks EWC keeps more than plain SGD", "Fig. 2B", difference("accuracy", "ewc", "sgd") > 0.08
        ),
        Claim(
            "EWC keeps the first task that plain SGD forgets", "Fig. 2A",
            difference("first_task_accuracy", "ewc", "sgd") > 0.15,
        ),
        Claim("equal springs do worse than those of EWC", "Fig. 2A", difference("accuracy", "ewc", "l2") > 0.02),
        Claim(
            "EWC stays near a network that sees all tasks at once", "Fig. 2B",
            difference("accuracy", "joint", "ewc") < 0.10,
        ),
        Claim(
            "tasks that look alike share Fisher information near the input, others do not", "Fig. 2C",
            difference("overlap_first_layer", "overlap-8", "overlap-26") > 0.1,
        ),
        Claim(
            "unlike tasks share more of it towards the output", "Fig. 2C",
            value("overlap_last_layer", "overlap-26") - value("overlap_first_layer", "overlap-26") > 0.05,
        ),
        Claim(
            "noise hurts less where the Fisher information is small", "Fig. 3C",
            value("accuracy_under_inverse_fisher_noise", "noise") - value("accuracy_under_uniform_noise", "noise")
            > 0.05,
        ),
        Claim(
            "a Q-network with EWC still plays the games it learned before", "Fig. 4",
            difference("mean_return", "catch-ewc", "catch-adam") > 0.3,
        ),
    ],
    figures=[
        Curve(
            "The staircase: accuracy on each task while later ones are learned", arms=("sgd", "l2", "ewc"),
            x="epoch", y="accuracy", series="task",
        ),
        Curve(
            "Mean accuracy over the tasks seen so far", arms=("sgd", "l2", "ewc", "ewc-online", "dropout"),
            x="tasks", y="mean_accuracy",
        ),
        Curve(
            "Too weak forgets, too strong does not learn", arms=("strengths",), x="strength", y="share_correct",
            series="of", log_x=True,
        ),
        Curve("Fisher overlap of two tasks by layer", arms=("overlap-8", "overlap-26"), x="layer", y="overlap"),
        Curve("Noise on the weights, shaped in three ways", arms=("noise",), x="noise", y="score", series="kind"),
        Scatter(
            "What is kept of the first task, against what is learned of the last",
            arms=("sgd", "l2", "ewc", "ewc-online", "dropout", "joint"),
            x="last_task_accuracy", y="first_task_accuracy",
        ),
        Curve(
            "Three games of Catch in turn: what a Q-network still plays", arms=("catch-adam", "catch-ewc"),
            x="games_learned", y="mean_return", series="game",
        ),
        Bars(
            "Two digits at a time with one head: EWC is known to fail there", arms=("split-sgd", "split-ewc"),
            metric="accuracy",
        ),
    ],
    seeds=(3, 5),
)  # fmt: skip
