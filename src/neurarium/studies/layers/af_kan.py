"""Activations of shifted inputs, squeezed by attention, make a better classifier than a perceptron of equal size.

Ta and Tran replace the ReLUs of ReLU-KAN by any activation, combine the pairs in other ways, and squeeze the
features of each input to one number by attention, so that the layer has a perceptron's number of parameters (AF-
KAN). They report it ahead of perceptrons and of other Kolmogorov-Arnold networks of that size on MNIST and Fashion-
MNIST, and near those that have six to ten times as many parameters, at a longer training. Their tables are not
known to us.

Small: 5,000 training and 2,000 test images of each set, pixels in [-1, 1], AdamW (1e-3, weight decay 1e-4, batches
of 64), the rate times .8 after each of 5 epochs, as released but with shuffling. At equal size, about 52,600
parameters: AF-KAN (784-64-10), a perceptron (784-64-10, SiLU, a LayerNorm before each layer), ReLU-KAN and a spline
network (784-9-10). At equal structure (784-64-10): ReLU-KAN of 316,000 parameters. Variants: the released feature
normalisation, over the whole batch, and none. A cut schedule favours who learns fast, so ``mlp-tuned`` (rate 3e-3,
cosine) is reported beside. ReLU-KAN's shifts are fixed here; released, they are trained for each input. Paper: all
images, 25 epochs.
"""

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR

from neurarium.data import Batches, Split, load
from neurarium.lab import Bars, Claim, Curve, Metrics, Paper, Run, Scatter, Study, all_of, difference, ratio
from neurarium.layers import ActivationKANLinear, KANLinear
from neurarium.learning import Backprop
from neurarium.training import evaluate, fit


@dataclass(frozen=True)
class Settings:
    """What the arms and scales change."""

    kind: str = "af-kan"
    hidden: int = 64
    feature_norm: str = "sample"
    tuned: bool = False
    images: int = 5000
    tested: int = 2000
    epochs: int = 5
    clothes: str = "fashion-mnist"
    digits: str = "mnist"


def layer(settings: Settings, inputs: int, outputs: int) -> nn.Module:
    """One layer of an arm."""
    if settings.kind == "af-kan":
        return ActivationKANLinear(inputs, outputs, feature_norm=settings.feature_norm or None)
    if settings.kind == "mlp":
        return nn.Sequential(nn.LayerNorm(inputs), nn.SiLU(), nn.Linear(inputs, outputs))
    basis = "relu" if settings.kind == "relu-kan" else "bspline"
    base = None if basis == "relu" else "silu"
    kan = KANLinear(inputs, outputs, basis, grid_size=3, grid_range=(-1.0, 1.0), base_activation=base, scale=False)
    return nn.Sequential(nn.LayerNorm(inputs), kan) if basis == "relu" else kan


def dependence(model: nn.Module, x: Tensor) -> float:
    """Mean change of a row's scores among other rows, by their spread."""
    with torch.no_grad():
        alone, among = model(x[:32]), model(torch.cat([x[:32], 2 * x[32:64]]))[:32]
        return float((alone - among).abs().mean() / alone.std())


def learn(settings: Settings, data: Split, run: Run, on: str) -> dict[str, float]:
    """Train on one set."""
    model = nn.Sequential(layer(settings, 784, settings.hidden), layer(settings, settings.hidden, 10)).to(run.device)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3 if settings.tuned else 1e-3, weight_decay=1e-4)
    schedule = CosineAnnealingLR(optimizer, settings.epochs) if settings.tuned else ExponentialLR(optimizer, 0.8)
    train, began = data.train.subset(settings.images, seed=run.seed), time.process_time()
    test = data.test[: settings.tested]
    for epoch in run.track(range(settings.epochs), "epochs"):
        fit(Backprop(model, cross_entropy), Batches(train, 64, shuffle=True, seed=run.seed + epoch), optimizer)
        schedule.step()
        run.record(epoch=epoch + 1, accuracy=evaluate(model, Batches(test, 500)), on=on)
    return {
        "accuracy": evaluate(model, Batches(test, 500)),
        "train_seconds": time.process_time() - began,
        "parameters": float(sum(p.numel() for p in model.parameters())),
        "dependence": dependence(model, test.x),
    }


def centred(x: Tensor) -> Tensor:
    """Pixels in [-1, 1]."""
    return x.float() / 127.5 - 1


def trial(settings: Settings, run: Run) -> Metrics:
    """Clothes and digits."""
    metrics: dict[str, float] = {}
    for short, name in (("fashion", settings.clothes), ("mnist", settings.digits)):
        data = load(name).map_inputs(centred).flat().to(run.device)
        found = learn(settings, data, run, short)
        metrics |= {f"{short}_accuracy": found.pop("accuracy")} | found
    return metrics


STUDY = Study(
    paper=Paper(
        "AF-KAN: Activation Function-Based Kolmogorov-Arnold Networks for Efficient Representation Learning",
        "Ta, Tran", 2025, arxiv="2503.06112",
    ),
    trial=trial,
    arms={
        "af-kan": Settings(),
        "mlp": Settings("mlp"),
        "relu-kan": Settings("relu-kan", hidden=10),
        "spline-kan": Settings("spline-kan", hidden=9),
        "relu-kan-wide": Settings("relu-kan"),
        "af-kan-batch": Settings(feature_norm="batch"),
        "af-kan-plain": Settings(feature_norm=""),
        "mlp-tuned": Settings("mlp", tuned=True),
    },
    scales={
        "smoke": {"images": 128, "tested": 64, "epochs": 1, "clothes": "mnist-small", "digits": "mnist-small"},
        "paper": {"images": 60_000, "tested": 10_000, "epochs": 25},
    },
    claims=[
        Claim(
            "At equal size AF-KAN is ahead of a perceptron on clothes", "abstract",
            difference("fashion_accuracy", "af-kan", "mlp") > 0.005,
        ),
        Claim(
            "At equal size AF-KAN is ahead of a perceptron on digits", "abstract",
            difference("mnist_accuracy", "af-kan", "mlp") > 0,
        ),
        Claim(
            "At equal size AF-KAN is ahead of other Kolmogorov-Arnold networks", "abstract",
            all_of(
                *(
                    difference(f"{name}_accuracy", "af-kan", other) > 0.01
                    for name in ("fashion", "mnist") for other in ("relu-kan", "spline-kan")
                )
            ),
        ),
        Claim(
            "With the same structure it keeps up with a network of six times its parameters", "abstract",
            difference("fashion_accuracy", "af-kan", "relu-kan-wide") > -0.01,
        ),
        Claim("It takes more than twice a perceptron's time", "abstract", ratio("train_seconds", "af-kan", "mlp") > 2),
    ],
    figures=[
        Curve("Test accuracy over the epochs", ["af-kan", "mlp"], x="epoch", y="accuracy", series="on"),
        Scatter("Accuracy on clothes against parameters", x="parameters", y="fashion_accuracy"),
        Bars("Accuracy on clothes", metric="fashion_accuracy"),
        Bars("Accuracy on digits", metric="mnist_accuracy"),
        Bars("How far scores depend on the other rows of a batch", metric="dependence"),
    ],
    seeds=(3, 3),
)  # fmt: skip
