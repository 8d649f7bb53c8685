"""Elastic weight consolidation keeps old tasks that plain SGD forgets.

The paper (Kirkpatrick et al., 2017) trains one network on tasks in turn and holds each weight with a spring as stiff as its
Fisher information on earlier tasks. On permuted MNIST plain SGD forgets, equal springs (L2) stop the network from learning,
and EWC does neither; ten tasks stay near single-task accuracy while SGD with dropout falls. Tasks that look different share
little Fisher information near the input and more near the output, and noise on the weights hurts less where that
information is small. Its Atari results need months of frames and are not tested here.

Small: five permutations of 6,000 images, a 784-200-200-10 network, SGD with momentum, three epochs per task. All arms of a
seed share permutations, first weights and order of batches; ``joint`` sees all tasks at once for as many steps. The
strengths of ``l2`` (1e-3 to 1) and ``ewc`` (1e1 to 3e3) are the best of seven each by mean accuracy on seed 100, outside
the seeds that are run; ``ewc-online`` uses that of ``ewc``. ``dropout`` keeps each task's best epoch on held-out images.
``overlap-8`` and ``overlap-26`` learn MNIST and then a copy with a central square permuted; ``noise`` perturbs a network
trained on one task; ``strengths`` runs EWC over a range of strengths; the ``split`` arms learn two digits at a time with
one shared head, where EWC is known to fail, and carry no claim. Paper: ten tasks of 60,000 images, 20 epochs each.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.continual import EWC, Finetune, L2Anchor, Strategy
from neurarium.data import Arrays, Batches, Split, load, permuted_square, permuted_stream, split_stream
from neurarium.lab import Bars, Claim, Curve, Metrics, Paper, Run, Scatter, Study, difference, value
from neurarium.learning import Backprop
from neurarium.probes import fisher_diagonal, fisher_overlap, perturbation_curve
from neurarium.training import evaluate, fit


@dataclass(frozen=True)
class Settings:
    experiment: Literal["stream", "split", "joint", "overlap", "noise", "strengths"] = "stream"
    strategy: Literal["sgd", "l2", "ewc", "ewc-online"] = "sgd"
    strength: float = 0.0
    dropout: bool = False
    data: str = "mnist-small"
    images: int = 6_000
    test_images: int = 2_000
    tasks: int = 5
    epochs: int = 3
    hidden: tuple[int, ...] = (200, 200)
    lr: float = 0.01
    momentum: float = 0.9
    batch_size: int = 64
    square: int = 8
    noise: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
    sweep: tuple[float, ...] = (1.0, 10.0, 100.0, 1000.0, 10000.0)


def trial(settings: Settings, run: Run) -> Metrics:
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
    return torch.optim.SGD(model.parameters(), lr=settings.lr, momentum=settings.momentum)


def learn(settings: Settings, run: Run, stream: Sequence[Split], record: bool = True) -> dict[str, float]:
    """The tasks in turn; accuracy on every task so far after every epoch."""
    model = network(settings).to(run.device)
    strategy, rule = strategy_for(settings, model), Backprop(model, cross_entropy)
    table: list[list[float]] = []
    epochs = [(t, e) for t in range(len(stream)) for e in range(settings.epochs)]
    best, kept = -1.0, copy.deepcopy(model.state_dict())
    for step, (task, epoch) in enumerate(run.track(epochs, "epochs"), start=1):
        train = Batches(stream[task].train, settings.batch_size, shuffle=True, seed=1000 * run.seed + len(epochs) + step)
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


def accuracy(model: nn.Module, arrays: Arrays) -> float:
    return evaluate(model, Batches(arrays, 1000))
