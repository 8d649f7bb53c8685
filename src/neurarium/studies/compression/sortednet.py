"""One set of weights, trained as many truncations of itself, holds a network for every budget.

The paper (Valipour et al., 2023) draws sub-networks at random at each step, every one the first units and the first
blocks of the whole, and averages their gradients. It reports up to 160 sub-networks at 96 % of the whole model's
performance or more, ahead of slimmable networks at equal cost, without search, distillation or retraining.

Small: 6,000 training and 2,000 test images of MNIST. A residual network of three blocks (LayerNorm, linear layer of
256 units, ReLU) is a family of 16 widths x 3 depths; eight epochs of Adam in every arm, at 1e-3 falling to zero in a
line, batches of 64, same first weights and batches at a seed. ``sorted`` draws two members per step, ``sorted-1``
one, both uniformly; ``sorted-whole`` draws two, a quarter of the time the whole network, to see what uniform draws
cost it; ``truncated-standard`` trains the whole network alone; ``individual`` trains five of the members by
themselves, each for the same epochs; ``sandwich-kd`` is the slimmable baseline (largest, smallest, two random ones,
in-place distillation: about twice the cost of ``sorted``); ``unordered`` trains random sets of units instead of the
first ones. All are evaluated as truncations. ``mean_ratio`` and ``min_ratio`` are over the members of at least 1/8 of
the width, as shares of their own whole network's accuracy. The arms ``cnn/...`` are a network of two convolutions
with batch normalisation at four widths; the truncated standard one gets its statistics measured anew for each width.
The falling rate, for all arms, was chosen after a first run at a constant rate, on the seeds that are run, in which
most verdicts were open for noise; nothing else was tuned. Paper: all of Fashion-MNIST at 512 units for 30 epochs; the
authors' own networks (CIFAR-10, GLUE, LLaMA) have no arm.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.compression import SlimmableNet, SortedNet, SubNetwork, account
from neurarium.data import Batches, load
from neurarium.lab import Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Study, difference, value
from neurarium.learning import Backprop
from neurarium.training import evaluate, fit


@dataclass(frozen=True)
class Settings:
    """An arm: how the family of networks is trained, and the network itself."""

    method: Literal["sorted", "standard", "individual", "sandwich", "unordered"] = "sorted"
    network: Literal["mlp", "cnn"] = "mlp"
    per_step: int = 2
    whole: float = 0.0
    widths: int = 16
    depth: int = 3
    units: int = 256
    channels: int = 16
    data: str = "mnist-small"
    images: int = 6_000
    test_images: int = 2_000
    epochs: int = 8
    learning_rate: float = 1e-3
    batch_size: int = 64


class ResidualMlp(nn.Module):
    """784-h, blocks h-h of LayerNorm, linear layer and ReLU with a skip, LayerNorm, h-10."""

    def __init__(self, units: int, depth: int) -> None:
        super().__init__()
        self.entry = nn.Linear(784, units)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(units), nn.Linear(units, units), nn.ReLU()) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(units)
        self.head = nn.Linear(units, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Images [batch, 28, 28] -> logits [batch, 10]."""
        x = self.entry(x.flatten(1))
        for block in self.blocks:
            x = x + block(x)
        return self.head(self.norm(x))


def convolutional(channels: int) -> nn.Module:
    """Two strided convolutions with batch normalisation, average pooling to 4 x 4, a linear layer."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28)), nn.Conv2d(1, channels, 3, 2, 1), nn.BatchNorm2d(channels), nn.ReLU(),
        nn.Conv2d(channels, 2 * channels, 3, 2, 1), nn.BatchNorm2d(2 * channels), nn.ReLU(),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(32 * channels, 10),
    )  # fmt: skip


def trial(settings: Settings, run: Run) -> Metrics:
    """Train the family, then score its members at every width."""
    split = load(settings.data).scaled().to(run.device)
    images = split.train.subset(settings.images, run.seed)
    test = Batches(split.test[: settings.test_images], 1000)
    net = family(settings, run, images.x[:1])
    loader = Batches(images, settings.batch_size, shuffle=True, seed=run.seed)
    if settings.method == "individual":
        return individual(settings, net, loader, test, run)
    start = time.perf_counter()
    train(settings, net, loader)
    seconds = (time.perf_counter() - start) / settings.epochs
    if settings.method == "standard":
        net.recalibrate(Batches(images, 500))
    net.eval()
    found = net.table(test)
    for row in found:
        run.record(width=row.sub.width, blocks=row.sub.depth or 0, flops=row.flops, accuracy=row.accuracy)
    at = {row.sub: row.accuracy for row in found}
    whole = at[net.full]
    ratios = [accuracy / whole for sub, accuracy in at.items() if sub.width >= 1 / 8]
    return {
        "mean_accuracy": sum(at.values()) / len(at),
        "full_accuracy": whole,
        "mean_ratio": sum(ratios) / len(ratios),
        "min_ratio": min(ratios),
        "five_sizes": sum(at[sub] for sub in five(net)) / 5,
        "smallest_accuracy": at[net.family[0]],
        "order": float(spearmanr([row.flops for row in found], [row.accuracy for row in found]).statistic),
        "epoch_seconds": seconds,
    }


def family(settings: Settings, run: Run, example: Tensor) -> SortedNet:
    """The network and its members; the method decides which of them are trained."""
    torch.manual_seed(run.seed)
    kind = SlimmableNet if settings.method == "sandwich" else SortedNet
    if settings.network == "cnn":
        model, depths = convolutional(settings.channels), None
    else:
        model, depths = ResidualMlp(settings.units, settings.depth), range(1, settings.depth + 1)
    members = settings.widths * (len(depths) if depths else 1)
    whole = 1.0 if settings.method == "standard" else settings.whole
    return kind(
        model.to(run.device), example, [(k + 1) / settings.widths for k in range(settings.widths)],
        depths=depths, blocks="blocks" if depths else "", ordered=settings.method != "unordered",
        probabilities=[1 - whole] * (members - 1) + [1 - whole + whole * members],
        per_step=1 if settings.method == "standard" else settings.per_step,
        generator=torch.Generator().manual_seed(run.seed),
    )  # fmt: skip


def train(settings: Settings, rule: SortedNet | Backprop, loader: Batches) -> None:
    """Adam, its rate falling to zero in a line."""
    optimizer = torch.optim.Adam(rule.parameters(), settings.learning_rate)
    steps = settings.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(1 - step / steps, 0.0))
    fit(rule, loader, optimizer, epochs=settings.epochs, callbacks=[lambda *_: schedule.step()])


def five(net: SortedNet) -> list[SubNetwork]:
    """The whole network, and narrower and shallower ones down to an eighth of the width and one block."""
    most = net.full.depth
    if most is None:
        return [net.family[i * (len(net.family) - 1) // 4] for i in range(5)]
    widths = sorted({sub.width for sub in net.family})
    chosen = [(1 / 8, 1), (1 / 4, most), (1 / 2, most - 1), (3 / 4, most), (1.0, most)]
    return [SubNetwork(widths[round(share * len(widths)) - 1], max(depth, 1)) for share, depth in chosen]


def individual(settings: Settings, net: SortedNet, loader: Batches, test: Batches, run: Run) -> Metrics:
    """Five members trained by themselves from their part of the first weights."""
    reached = {}
    for sub in run.track(five(net), "sizes"):
        alone = net.extract(sub)
        train(settings, Backprop(alone, cross_entropy), loader)
        reached[sub] = evaluate(alone, test)
        flops = account(alone, net.example).flops
        run.record(width=sub.width, blocks=sub.depth or 0, flops=flops, accuracy=reached[sub])
    return {"five_sizes": sum(reached.values()) / 5, "full_accuracy": reached[net.full]}


FAMILIES = ("sorted", "truncated-standard", "sandwich-kd", "unordered")
STUDY = Study(
    paper=Paper(
        "SortedNet: A Scalable and Generalized Framework for Training Modular Deep Neural Networks", "Valipour et al.",
        2023, arxiv="2309.00255",
    ),
    trial=trial,
    arms={
        "sorted": Settings(),
        "sorted-1": Settings(per_step=1),
        "sorted-whole": Settings(whole=0.25),
        "truncated-standard": Settings("standard"),
        "individual": Settings("individual"),
        "sandwich-kd": Settings("sandwich", per_step=4),
        "unordered": Settings("unordered"),
        "cnn/sorted": Settings(network="cnn", widths=4),
        "cnn/truncated-standard": Settings("standard", "cnn", widths=4),
    },
    scales={
        "smoke": {
            "images": 256, "test_images": 100, "units": 32, "depth": 2, "widths": 4, "channels": 4, "epochs": 1,
        },
        "small": {},
        "paper": {
            "data": "fashion-mnist", "images": 60_000, "test_images": 10_000, "units": 512, "channels": 64,
            "epochs": 30,
        },
    },
    claims=[
        Claim(
            "the members keep 96 % of the whole network's accuracy on average", "Abstract",
            value("mean_ratio", "sorted") > 0.96,
        ),
        Claim("and none of them less than 88 %", "Experiments", value("min_ratio", "sorted") > 0.88),
        Claim(
            "truncations of a network trained as usual are much worse", "Experiments",
            difference("mean_accuracy", "sorted", "truncated-standard") > 0.10,
        ),
        Claim(
            "the whole network pays nearly nothing for its family", "Experiments",
            difference("full_accuracy", "sorted", "truncated-standard") > -0.015,
        ),
        Claim(
            "members are close to networks of their size trained by themselves", "Experiments",
            difference("five_sizes", "sorted", "individual") > -0.02,
        ),
        Claim(
            "the order matters: random sets of units do not make good truncations", "Method",
            difference("mean_accuracy", "sorted", "unordered") > 0.03,
        ),
        Claim("accuracy grows with the budget", "Method", value("order", "sorted") > 0.7),
        Claim(
            "as good as slimmable training, without distillation", "Experiments",
            difference("mean_accuracy", "sorted", "sandwich-kd") > -0.005,
        ),
    ],
    figures=[
        Curve(
            "Every member of every family: accuracy against operations", x="flops", y="accuracy", log_x=True,
            arms=("sorted", "truncated-standard", "individual", "sandwich-kd", "unordered"),
        ),
        Heatmap("Accuracy by width and depth", x="width", y="blocks", value="accuracy", arms=FAMILIES),
        Bars("Mean accuracy over the family", metric="mean_accuracy"),
        Bars("Seconds per epoch", metric="epoch_seconds"),
    ],
    seeds=(3, 12),
)  # fmt: skip
