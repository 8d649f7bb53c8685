"""Networks trained from different seeds share some units, and more of the space that the units span.

Li, Yosinski, Clune, Lipson and Hopcroft trained four AlexNets on ImageNet from different seeds and asked, layer by
layer, which units of one are units of another: one to one (assignment on the correlations of activations), one to many
(a sparse linear prediction), many to many (spectral co-clustering). They found that some features are learned by every
network and some are not, fewer with depth; that units span common subspaces in differing bases; and that a few units,
not one and not all, stand for one unit of another network.

Small: Fashion-MNIST, two convolutional layers (16 and 32 channels) and a dense one (64), rectifiers, three networks of
different seeds, two epochs on 8,000 images; correlations over 1,000 test images, the first 500 to fit the mapping and
the others to judge it. The controls answer what the numbers would be anyway: networks that were never trained, a
network whose units are turned into a random orthogonal basis (the space stays, the units do not), and one that sees the
images in another order. Paper: ImageNet's four AlexNets are replaced by the same networks, wider, on all of
Fashion-MNIST, since their weights are not to be had. The penalty is chosen by rule: the largest that keeps 95 %
of the held-out variance that the best one explains.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import Batches, Split, load
from neurarium.lab import Bars, Claim, Curve, Metrics, Paper, Run, Study, all_of, difference, value
from neurarium.learning import Backprop
from neurarium.probes import CorrelationTable, co_cluster, match_units, sparse_mapping, unit_correlations
from neurarium.training import evaluate, fit

LAYERS = ("conv1", "conv2", "dense")


@dataclass(frozen=True)
class Settings:
    """What the arms and scales change."""

    control: Literal["none", "untrained", "rotation", "shuffle"] = "none"
    data: str = "fashion-mnist"
    images: int = 8000
    probed: int = 1000
    networks: int = 3
    epochs: int = 2
    channels: int = 16
    positions: int = 49
    clusters: int = 8


def build(settings: Settings) -> nn.Sequential:
    """Two convolutions and a dense layer; ``relu1``, ``relu2`` and ``relu3`` are probed."""
    c = settings.channels
    return nn.Sequential(
        nn.Unflatten(1, (1, 28)),
        nn.Conv2d(1, c, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(c, 2 * c, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(2 * c * 49, 4 * c), nn.ReLU(),
        nn.Linear(4 * c, 10),
    )  # fmt: skip


def networks(settings: Settings, data: Split, run: Run) -> list[nn.Module]:
    """The same architecture from different seeds, in different orders of the data."""
    found: list[nn.Module] = []
    for number in run.track(range(settings.networks), "networks"):
        torch.manual_seed(run.seed * 100 + number)
        model = build(settings).to(run.device)
        if settings.control != "untrained":
            loader = Batches(data.train, 64, shuffle=True, seed=run.seed * 100 + number)
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
            fit(Backprop(model, cross_entropy), loader, optimizer, epochs=settings.epochs)
        found.append(model)
    return found


def trial(settings: Settings, run: Run) -> Metrics:
    """Train, correlate, match, map and cluster."""
    data = load(settings.data)
    data = Split(data.train.subset(settings.images, seed=run.seed), data.validation, data.test).scaled().to(run.device)
    nets = networks(settings, data, run)
    test = data.test.subset(settings.probed, seed=run.seed)
    halves = [Batches(test[: len(test) // 2], 100), Batches(test[len(test) // 2 :], 100)]
    control = settings.control if settings.control in ("rotation", "shuffle") else None

    def tables(a: nn.Module, b: nn.Module, half: int) -> list[CorrelationTable]:
        names = ["2", "5", "9"]
        return list(
            unit_correlations(a, b, halves[half], names, control=control, positions=settings.positions, seed=run.seed)
        )

    metrics = {"accuracy": evaluate(nets[0], Batches(data.test, 1000))}
    sums: dict[str, list[float]] = {}

    def note(layer: str, **values: float) -> None:
        for name, number in values.items():
            sums.setdefault(name, []).append(number)
            metrics[f"{name}_{layer}"] = number

    for layer, fitted, held_out in zip(LAYERS, tables(nets[0], nets[1], 0), tables(nets[0], nets[1], 1)):
        single, greedy = match_units(fitted), match_units(fitted, "greedy")
        correlations = single.correlations.double().cpu()
        low, high = correlations.quantile(torch.tensor([0.1, 0.9]).double()).tolist()
        note(
            layer,
            matched=float(correlations.mean()),
            gain=float(greedy.correlations.mean() - correlations.mean()),
            spread=high - low,
            high=float((correlations > 0.8).double().mean()),
        )
        for place, found in enumerate(correlations.sort(descending=True).values.tolist()):
            run.record(share=place / max(len(correlations) - 1, 1), correlation=found, layer=layer)

        mapping = sparse_mapping(fitted, held_out=held_out)
        at = mapping.chosen()
        best = held_out.matrix[:, mapping.live].abs().amax(0)
        note(
            layer,
            mapping_loss=float(mapping.error[at]),
            single_loss=float((0.5 * (1 - best.square())).mean()),
            support=float(mapping.support[at][mapping.live].double().median()),
        )
        for penalty, error, used in zip(mapping.penalties, mapping.error, mapping.support[:, mapping.live]):
            drawn = max(penalty, 1e-4)  # none is drawn there
            run.record(penalty=drawn, error=error, units=used.double().median(), map_of=layer)

        clusters = co_cluster(fitted, min(settings.clusters, min(fitted.matrix.shape) // 2), seed=run.seed)
        note(
            layer,
            canonical=float(clusters.canonical.nanmean()),
            block=float(clusters.mass.nanmean()) - clusters.outside,
        )
    if settings.networks > 2:
        walk = [
            match_units(tables(a, b, 0)[1]) for a, b in ((nets[0], nets[1]), (nets[1], nets[2]), (nets[2], nets[0]))
        ]
        metrics["returning"] = walk[0].returning(*walk[1:])
    means = {name: sum(numbers) / len(numbers) for name, numbers in sums.items()}
    means["least_gain"] = min(sums["gain"])
    means["mapping_ratio"] = means["mapping_loss"] / max(means["single_loss"], 1e-12)
    return metrics | means


STUDY = Study(
    paper=Paper(
        "Convergent Learning: Do different neural networks learn the same representations?",
        "Li, Yosinski, Clune, Lipson, Hopcroft",
        2015,
        arxiv="1511.07543",
    ),
    trial=trial,
    arms={
        "trained": Settings(),
        "untrained": Settings(control="untrained", networks=2),
        "rotated": Settings(control="rotation", networks=2),
        "shuffled": Settings(control="shuffle", networks=2),
    },
    scales={
        "smoke": {"data": "mnist-small", "images": 256, "probed": 100, "epochs": 1, "channels": 4, "clusters": 3},
        "paper": {"images": 60_000, "probed": 10_000, "networks": 4, "epochs": 20, "channels": 96, "positions": 196},
    },
    claims=[
        Claim(
            "Trained networks share units: matched correlations are far above those of untrained ones",
            "section 3.2",
            difference("matched", "trained", "untrained") > 0.15,
        ),
        Claim(
            "Some units compete for one partner: the best partner beats the one-to-one match in every layer",
            "section 3.2, Fig. 3",
            value("least_gain", "trained") > 0.01,
        ),
        Claim(
            "Several units together predict a unit better than its best single partner does, by more than a tenth",
            "section 4",
            value("mapping_ratio", "trained") < 0.9,
        ),
        Claim(
            "Few units suffice: the sparse prediction uses between 2 and 16",
            "section 4, abstract",
            all_of(value("support", "trained") > 2, value("support", "trained") < 16),
        ),
        Claim(
            "Some features are learned reliably and others are not",
            "section 3.2, Fig. 3",
            value("spread", "trained") > 0.2,
        ),
        Claim(
            "Groups of units span common directions that no single pair shows",
            "section 5",
            value("canonical", "trained") - value("matched", "trained") > 0.05,
        ),
    ],
    figures=[
        Curve(
            "Correlations of matched units, sorted, by layer: a few near 1, a long tail",
            x="share",
            y="correlation",
            series="layer",
            arms=["trained"],
        ),
        Curve("The same in all arms (all layers)", x="share", y="correlation"),
        Curve(
            "Error of the sparse prediction against its penalty (predicting nothing: 0.5)",
            x="penalty",
            y="error",
            series="map_of",
            log_x=True,
            arms=["trained"],
        ),
        Curve(
            "Units that take part", x="penalty", y="units", series="map_of", log_x=True, log_y=True, arms=["trained"]
        ),
        Bars("Matched correlation, mean over layers", metric="matched"),
        Bars("First canonical correlation of the co-clusters", metric="canonical"),
    ],
    seeds=(3, 8),
)
