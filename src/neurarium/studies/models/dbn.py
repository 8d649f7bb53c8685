"""Boltzmann machines learn patterns without labels, and their layers start a deep sigmoid network that else stalls.

The tutorial (Cuevas-Tello et al., 2016) shows restricted Boltzmann machines trained by contrastive divergence, stacked
into a deep belief network and fine-tuned with labels, on small binary patterns, simple prediction, digits and speech.
Its own figures were not available to us; claims are the ones that it and the works it explains make, margins are ours.

Small, in three experiments. ``patterns/...``: the 14 bars and stripes of 3 x 3 pixels (the best possible mean
log-likelihood is -log 14 = -2.639), 16 hidden units, 3,000 updates of plain SGD on all patterns at a rate that falls to
zero in a line, restarted chains of 1 and 10 steps (CD) and 100 persistent chains (PCD); the likelihood is exact. Of the
rates 0.1, 0.3 and 1 the second served all three best on seed 100. Momentum is left out: at 0.9 the weights outrun
persistent chains, and the likelihood collapses. ``networks/...``: 5,000 images of MNIST without labels,
784-256-256-256-10, pre-training of 10 passes a layer; then 20 passes of Adam in batches of 50 over 50 to 500 labelled
images. Metrics speak of 500. The same sigmoid network starts from the machines (``dbn``), from Xavier's draws
(``random``) and from N(0, 0.01), the custom of the time (``small-draws``, no claim); with one hidden layer
(``shallow``, Xavier); and as a ReLU network of He's draws (``relu``, the modern reference, no claim). Of the rates 1e-3
and 3e-3 the second served every arm best on seed 100 (``small-draws`` has it too, untried). ``partition``: a machine of
16 hidden units on the 8 x 8 digits, whose log Z is enumerated and estimated from 200 chains.

Paper: all of MNIST, 784-500-500-2000-10, 50 passes; 100, 1,000 and 60,000 labels.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy

from neurarium.data import Arrays, Batches, load
from neurarium.lab import Arm, Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Study, all_of, difference, value
from neurarium.learning import Backprop
from neurarium.models import RBM, ContrastiveDivergence, DeepBeliefNetwork, fit_rbm, log_likelihood, log_partition
from neurarium.studies.models._pictures import record_grid
from neurarium.training import evaluate, fit


@dataclass(frozen=True)
class Patterns:
    """Learning bars and stripes."""

    steps: int = 1  # of Gibbs sampling
    persistent: int = 0
    hidden: int = 16
    updates: int = 3_000
    learning_rate: float = 0.3


@dataclass(frozen=True)
class Networks:
    """Pre-training and fine-tuning."""

    start: Literal["dbn", "random", "small-draws", "shallow", "relu"] = "dbn"
    data: str = "mnist-small"
    images: int = 5_000
    hidden: tuple[int, ...] = (256, 256, 256)
    passes: int = 10
    labels: tuple[int, ...] = (50, 100, 200, 500)
    headline: int = 500  # labels that the metrics speak of
    epochs: int = 20
    learning_rate: float = 3e-3
    gibbs: int = 200  # steps before a sample is shown


@dataclass(frozen=True)
class Partition:
    """Estimating log Z."""

    hidden: int = 16
    passes: int = 20
    chains: int = 200
    temperatures: tuple[int, ...] = (10, 30, 100, 300, 1_000)


def bars_and_stripes(side: int = 3) -> Tensor:
    """All images of whole rows or whole columns, [patterns, side²]."""
    lines = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * side)
    return torch.cat([lines.repeat_interleave(side, 1), lines.repeat(1, side)]).unique(dim=0)


def patterns(settings: Patterns, run: Run) -> Metrics:
    """The exact likelihood of a machine along its training."""
    generator = torch.Generator().manual_seed(run.seed)
    x = bars_and_stripes().to(run.device)
    machine = RBM(9, settings.hidden, generator=generator).to(run.device)
    rule = ContrastiveDivergence(machine, settings.steps, persistent=settings.persistent, generator=generator)
    optimizer = torch.optim.SGD(machine.parameters(), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / settings.updates)
    every = max(1, settings.updates // 60)
    found = -math.inf
    for update in run.track(range(1, settings.updates + 1), "updates"):
        optimizer.zero_grad()
        rule.assign_credit(x)
        optimizer.step()
        schedule.step()
        if update % every == 0 or update == settings.updates:
            found = log_likelihood(machine, x).mean
            run.record(update=update, log_likelihood=found)
    p = x.mean(0)
    independent = float((x * p.log() + (1 - x) * (1 - p).log()).sum(1).mean())
    return {"log_likelihood": found, "independent_bits": independent, "gain": found - independent}


def networks(settings: Networks, run: Run) -> Metrics:
    """A network's accuracy after a start and fine-tuning with few labels."""
    split = load(settings.data)
    split = split.flat().map_inputs(lambda x: x.float() / 255).to(run.device)
    images = split.train.subset(settings.images, seed=run.seed)
    torch.manual_seed(run.seed)
    network = pretrained(settings, images, run) if settings.start == "dbn" else None
    metrics: dict[str, float] = {}
    for count in run.track(settings.labels, "numbers of labels"):
        torch.manual_seed(run.seed)
        model = (network.to_classifier(10) if network else plain(settings)).to(run.device)
        if network:
            kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        rule = Backprop(model, cross_entropy)
        optimizer = torch.optim.Adam(rule.parameters(), settings.learning_rate)
        batches = Batches(images[:count], 50, shuffle=True, seed=run.seed)
        reached = first = 0.0
        for epoch in range(1, settings.epochs + 1):
            fit(rule, batches, optimizer)
            if count == settings.headline:
                reached = evaluate(model, Batches(split.test, 1000))
                run.record(epoch=epoch, test_accuracy=reached)
                first = first or float(evaluate(model, Batches(images[:count], 1000), cross_entropy))
        reached = reached or evaluate(model, Batches(split.test, 1000))
        run.record(labels=count, accuracy_by_labels=reached)
        if count == settings.headline:
            metrics |= {"accuracy": reached, "first_pass_loss": first}
        if network:
            network.load_state_dict(kept)  # each number of labels starts from the same machines
    return metrics


def pretrained(settings: Networks, images: Arrays, run: Run) -> DeepBeliefNetwork:
    """The stack of machines; what it dreams of while its top is learned goes into a picture."""
    generator = torch.Generator().manual_seed(run.seed)
    network = DeepBeliefNetwork((784, *settings.hidden), generator=generator).to(run.device)
    rows = [images.x[:10]]

    def look(layer: int, epoch: int, error: float) -> None:
        run.record(training_pass=epoch, reconstruction_error=error, layer=f"layer {layer}")
        stages = {1, settings.passes // 3, settings.passes}
        if run.seed == 0 and layer == len(settings.hidden) and epoch in stages:
            dream = torch.Generator().manual_seed(epoch)
            rows.append(network.sample(10, steps=settings.gibbs, generator=dream))

    network.pretrain(
        Batches(images, 100, shuffle=True, seed=run.seed), epochs=settings.passes, generator=generator, on_epoch=look
    )
    record_grid(run, [avg_pool2d(row.reshape(-1, 1, 28, 28), 2).squeeze(1) for row in rows])
    return network


def plain(settings: Networks) -> nn.Module:
    """The networks that start without machines."""
    hidden = settings.hidden[:1] if settings.start == "shallow" else settings.hidden
    sizes, layers = (784, *hidden), list[nn.Module]()
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU() if settings.start == "relu" else nn.Sigmoid()]
    model = nn.Sequential(*layers, nn.Linear(sizes[-1], 10))
    for layer in model:
        if isinstance(layer, nn.Linear):
            if settings.start == "small-draws":
                nn.init.normal_(layer.weight, 0.0, 0.01)
            else:
                draw = nn.init.kaiming_normal_ if settings.start == "relu" else nn.init.xavier_uniform_
                draw(layer.weight)
            nn.init.zeros_(layer.bias)
    return model


def partition(settings: Partition, run: Run) -> Metrics:
    """Annealed importance sampling against enumeration."""
    generator = torch.Generator().manual_seed(run.seed)
    digits = load("digits").flat().map_inputs(lambda x: x.float() / 16).to(run.device)
    machine = RBM(64, settings.hidden, generator=generator).to(run.device)
    fit_rbm(
        machine, Batches(digits.train, 50, shuffle=True, seed=run.seed), epochs=settings.passes, generator=generator
    )
    exact = log_partition(machine, "exact").value
    base = digits.train.x.mean(0).clamp(0.01, 0.99).logit()
    error = spread = math.nan
    for temperatures in run.track(settings.temperatures, "schedules"):
        found = log_partition(
            machine, "ais", chains=settings.chains, temperatures=temperatures, base_bias=base, generator=generator
        )
        error, spread = found.value - exact, found.standard_error
        run.record(temperatures=temperatures, error_of_log_z=error, line="estimate less exact log Z")
        run.record(temperatures=temperatures, error_of_log_z=3 * spread, line="three standard errors")
        run.record(temperatures=temperatures, error_of_log_z=-3 * spread, line="three standard errors below")
    likelihood = log_likelihood(machine, digits.test.x, log_partition(machine, "exact")).mean
    return {"log_z_error": error, "standard_error": spread, "log_z": exact, "test_log_likelihood": likelihood}


def smoke(settings: Patterns | Networks | Partition) -> Patterns | Networks | Partition:
    """Seconds: whether it runs."""
    if isinstance(settings, Patterns):
        return replace(settings, updates=20)
    if isinstance(settings, Networks):
        return replace(
            settings, images=200, hidden=(32, 24), passes=2, labels=(50, 100), headline=100, epochs=2, gibbs=5
        )
    return replace(settings, hidden=6, passes=1, chains=10, temperatures=(5, 10))


def paper(settings: Patterns | Networks | Partition) -> Patterns | Networks | Partition:
    """The usual stack on all of MNIST."""
    if isinstance(settings, Networks):
        return replace(
            settings, data="mnist", images=60_000, hidden=(500, 500, 2_000), passes=50, labels=(100, 1_000, 60_000),
            headline=60_000, epochs=30, gibbs=1_000,
        )  # fmt: skip
    return settings


STUDY = Study(
    paper=Paper(
        "A Tutorial on Deep Neural Networks for Intelligent Systems", "Cuevas-Tello, Valenzuela-Rendón, Nolazco-Flores",
        2016, "1603.07249",
    ),
    trial=None,
    arms={
        "patterns/cd-1": Arm(patterns, Patterns()),
        "patterns/cd-10": Arm(patterns, Patterns(steps=10)),
        "patterns/pcd-1": Arm(patterns, Patterns(persistent=100)),
        "networks/dbn": Arm(networks, Networks("dbn")),
        "networks/random": Arm(networks, Networks("random")),
        "networks/small-draws": Arm(networks, Networks("small-draws")),
        "networks/shallow": Arm(networks, Networks("shallow")),
        "networks/relu": Arm(networks, Networks("relu")),
        "partition": Arm(partition, Partition()),
    },
    scales={"smoke": smoke, "small": {}, "paper": paper},
    claims=[
        Claim(
            "machines learn the law of unlabelled patterns", "first example",
            all_of(
                value("log_likelihood", "patterns/pcd-1") > -3.2,
                difference("log_likelihood", "patterns/cd-10", "patterns/cd-1") > -0.1,
                *(value("gain", f"patterns/{rule}") > 2 for rule in ("cd-1", "cd-10", "pcd-1")),
            ),
        ),
        Claim(
            "pre-training makes a deep sigmoid network trainable with few labels", "deep belief networks",
            difference("accuracy", "networks/dbn", "networks/random") > 0.05,
        ),
        Claim(
            "it is at least as good as one hidden layer", "deep belief networks",
            difference("accuracy", "networks/dbn", "networks/shallow") > -0.01,
        ),
        Claim(
            "after one pass over the labels it is ahead", "deep belief networks",
            difference("first_pass_loss", "networks/dbn", "networks/random") < 0.0,
        ),
        Claim(
            "annealed importance sampling gives log Z within 0.2 nats", "Salakhutdinov and Murray, 2008",
            abs(value("log_z_error", "partition")) < 0.2,
        ),
    ],
    figures=[
        Heatmap(
            "What the network dreams of while its top layer is learned", x="column", y="row", value="ink",
            arms=("networks/dbn",),
            note="Top row: images of MNIST. Below: samples after one pass, a third of the passes and all, of seed 0.",
        ),
        Curve(
            "Bars and stripes: exact log-likelihood (-2.64 is the best possible)", x="update", y="log_likelihood",
            arms=("patterns/cd-1", "patterns/cd-10", "patterns/pcd-1"),
        ),
        Curve("Fine-tuning with 500 labels", x="epoch", y="test_accuracy"),
        Curve("Accuracy by the number of labels", x="labels", y="accuracy_by_labels", log_x=True),
        Curve(
            "Each layer learns what the one below makes of the images", x="training_pass", y="reconstruction_error",
            series="layer", arms=("networks/dbn",),
        ),
        Curve(
            "An estimate of log Z by the number of temperatures", x="temperatures", y="error_of_log_z", series="line",
            arms=("partition",), log_x=True,
        ),
        Bars("Mean log-likelihood of bars and stripes", metric="log_likelihood"),
    ],
    seeds=(3, 4),
)  # fmt: skip
