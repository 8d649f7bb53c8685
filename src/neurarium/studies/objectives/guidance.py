"""A guide's representations, even an untrained one's, let a network learn that trains badly on its own.

The paper (Subramaniam et al., 2024) adds to the task's loss, layer by layer, 1 - CKA between a network's activations
and those of a frozen guide of another architecture. Guided fully connected networks stop overfitting on ImageNet, a
plain deep CNN comes close to its residual twin; a guide with random weights helps too, so part of the gain is the prior
of its architecture; a short guided phase is enough.

Small: MNIST at 14 x 14, 2,000 training and 2,000 test images. The fully connected network is of the paper's form
(linear, batch norm, ReLU, dropout 0.1), with 20 hidden layers of 96; the guide is a four-layer CNN, trained on the same
images for three epochs or untrained. ``guided-noise`` shows the guide noise; ``guided-100-steps`` is guided for 100 of
192 steps; ``wrong-guide`` is a random network of the target's own form; ``distilled`` learns from labels and the
trained guide's logits (T = 4, half and half). ``easy-plain`` and ``easy-guided`` are the same network without dropout,
which trains well enough alone, and carry no claim. The plain CNN has 18 convolutions of 12 channels without shortcuts;
its guide is the trained residual twin, which is also the ``cnn-resnet`` arm. All arms of a kind share data, batches and
first weights; Adam 1e-3, batches of 128, 12 epochs (6 for the CNNs). Nothing was tuned; both dropouts were looked at on
seed 100 (0.38 alone and 0.51 guided with it, 0.81 and 0.80 without). MNIST stands in for Fashion-MNIST, which does not
ship with the package. Paper: Fashion-MNIST at full size, 48 layers of 1,024. The sequence tasks are not tested.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, kl_div

from neurarium.data import Arrays, Batches, Split, load
from neurarium.lab import Bars, Claim, Curve, Metrics, Paper, Run, Study, difference
from neurarium.layers import Residual
from neurarium.learning import Backprop
from neurarium.objectives import Guidance
from neurarium.probes import error_consistency
from neurarium.training import evaluate, fit

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Settings:
    """A network and its guide.

    ``depth`` and ``width`` are those of the fully connected network, ``convolutions`` and ``channels`` of the CNNs;
    ``pooling`` shrinks the images; the CNNs train for ``cnn_epochs``, the small CNN that guides for ``guide_epochs``.
    """

    network: Literal["fcn", "cnn", "resnet"] = "fcn"
    guide: Literal["none", "trained", "random", "wrong", "distilled"] = "none"
    until_step: int | None = None
    guide_input: Literal["same", "noise"] = "same"
    data: str = "mnist-small"
    images: int = 2_000
    test_images: int = 2_000
    pooling: int = 2
    depth: int = 20
    width: int = 96
    dropout: float = 0.1
    convolutions: int = 18
    channels: int = 12
    epochs: int = 12
    cnn_epochs: int = 6
    guide_epochs: int = 3
    lr: float = 1e-3
    batch_size: int = 128


def trial(settings: Settings, run: Run) -> Metrics:
    """Train one network, guided or not; accuracy and loss along the way."""
    split = images(settings, run)
    torch.manual_seed(run.seed)
    model = network(settings, settings.network, split).to(run.device)
    torch.manual_seed(run.seed + 1000)
    guide = make_guide(settings, run, split)
    if guide is None or settings.guide == "distilled":
        loss: Loss = cross_entropy if guide is None else distillation(model, guide)
        learn(settings, run, model, split, loss)
    else:
        with Guidance(
            model, guide, until_step=settings.until_step, guide_input=settings.guide_input
        ) as guidance:  # fmt: skip
            learn(settings, run, model, split, guidance.around(cross_entropy), guidance)
    metrics = {
        "accuracy": accuracy(model, split.test),
        "gap": accuracy(model, split.train) - accuracy(model, split.test),
    }
    if guide is not None and settings.guide != "wrong":
        found = error_consistency(outputs(model, split.test), outputs(guide, split.test), split.test.y)
        metrics |= {"error_consistency": found.kappa, "guide_accuracy": accuracy(guide, split.test)}
    return metrics


def images(settings: Settings, run: Run) -> Split:
    """Standardised images [n, 1, height, width], pooled."""
    split = load(settings.data).scaled().to(run.device)
    split = split.map_inputs(lambda x: avg_pool2d(x[:, None], settings.pooling) if len(x) else x)
    return Split(
        split.train.subset(min(settings.images, len(split.train)), run.seed), split.validation,
        split.test.subset(min(settings.test_images, len(split.test)), run.seed), split.classes,
    )  # fmt: skip


def learn(
    settings: Settings, run: Run, model: nn.Module, split: Split, loss: Loss, guidance: Guidance | None = None
) -> None:
    """Train, and record accuracy on both parts after every epoch."""
    rule, optimizer = Backprop(model, loss), torch.optim.Adam(model.parameters(), settings.lr)
    loader = Batches(split.train, settings.batch_size, shuffle=True, seed=run.seed)
    for epoch in run.track(range(1, total_epochs(settings) + 1), "epochs"):
        fit(rule, loader, optimizer)
        apart = sum(guidance.distances.values()) / len(guidance.distances) if guidance and guidance.distances else None
        run.record(
            epoch=epoch, accuracy=accuracy(model, split.test), train_accuracy=accuracy(model, split.train),
            **({} if apart is None else {"distance": apart}),
        )  # fmt: skip


def total_epochs(settings: Settings) -> int:
    """Epochs of the arm's network."""
    return settings.epochs if settings.network == "fcn" else settings.cnn_epochs


def make_guide(settings: Settings, run: Run, split: Split) -> nn.Module | None:
    """The network that guides: trained on the same images, or as it was drawn."""
    if settings.guide == "none":
        return None
    if settings.guide == "wrong":
        return network(settings, "fcn", split).to(run.device)
    guide = (small_cnn() if settings.network == "fcn" else network(settings, "resnet", split)).to(run.device)
    if settings.guide != "random":
        epochs = settings.guide_epochs if settings.network == "fcn" else total_epochs(settings)
        loader = Batches(split.train, settings.batch_size, shuffle=True, seed=run.seed)
        fit(Backprop(guide, cross_entropy), loader, torch.optim.Adam(guide.parameters(), 3e-3), epochs=epochs)
    return guide


def network(settings: Settings, kind: str, split: Split) -> nn.Sequential:
    """A network of a kind."""
    if kind != "fcn":
        return deep_cnn(settings.convolutions, settings.channels, residual=kind == "resnet")
    sizes = [split.train.x[0].numel()] + [settings.width] * settings.depth
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU(), nn.Dropout(settings.dropout)]
    return nn.Sequential(*layers, nn.Linear(settings.width, 10))


def small_cnn() -> nn.Sequential:
    """Four convolutions: the guide of the fully connected network."""
    layers: list[nn.Module] = []
    for before, after, stride in ((1, 8, 1), (8, 16, 2), (16, 32, 1), (32, 32, 2)):
        layers += [nn.Conv2d(before, after, 3, stride, 1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10))


def deep_cnn(convolutions: int, channels: int, residual: bool) -> nn.Sequential:
    """Pairs of convolutions, with or without a shortcut around each; half the size after the first pair."""

    def pair() -> nn.Module:
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
        return nn.Sequential(*layers)

    blocks: list[nn.Module] = []
    for number in range((convolutions - 2) // 2):
        blocks.append(Residual(pair()) if residual else pair())
        if number == 0:
            blocks.append(nn.MaxPool2d(2))
    inlet = [nn.Conv2d(1, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
    outlet = [nn.Conv2d(channels, channels, 3, padding=1), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*inlet, *blocks, *outlet, nn.Linear(4 * channels, 10))


def distillation(model: nn.Module, guide: nn.Module, temperature: float = 4.0) -> Loss:
    """Half the labels' loss and half the divergence from the guide's softened predictions (Hinton et al., 2015)."""
    seen: list[Tensor] = []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]) if module.training else None)
    guide.eval().requires_grad_(False)

    def loss(output: Tensor, y: Tensor) -> Tensor:
        soft = (guide(seen.pop()) / temperature).softmax(-1)
        divergence = kl_div((output / temperature).log_softmax(-1), soft, reduction="batchmean")
        return 0.5 * cross_entropy(output, y) + 0.5 * temperature**2 * divergence

    return loss


@torch.no_grad()
def outputs(model: nn.Module, arrays: Arrays) -> Tensor:
    """Logits, in evaluation mode."""
    model.eval()
    return torch.cat([model(x) for x, _ in Batches(arrays, 1000)])


def accuracy(model: nn.Module, arrays: Arrays) -> float:
    """Share of right answers."""
    return evaluate(model, Batches(arrays, 1000))


STUDY = Study(
    paper=Paper(
        "Training the Untrainable: Introducing Inductive Bias via Representational Alignment", "Subramaniam et al.",
        2024, "2410.20035",
    ),
    trial=trial,
    arms={
        "plain": Settings(),
        "guided-trained": Settings(guide="trained"),
        "guided-random": Settings(guide="random"),
        "guided-100-steps": Settings(guide="trained", until_step=100),
        "guided-noise": Settings(guide="random", guide_input="noise"),
        "wrong-guide": Settings(guide="wrong"),
        "distilled": Settings(guide="distilled"),
        "easy-plain": Settings(dropout=0.0),
        "easy-guided": Settings(guide="trained", dropout=0.0),
        "cnn-plain": Settings("cnn"),
        "cnn-guided": Settings("cnn", guide="trained"),
        "cnn-resnet": Settings("resnet"),
    },
    scales={
        "smoke": {
            "images": 128, "test_images": 100, "depth": 4, "width": 16, "convolutions": 6, "channels": 4, "epochs": 1,
            "cnn_epochs": 1, "guide_epochs": 1, "batch_size": 64,
        },
        "small": {},
        "paper": {
            "data": "fashion-mnist", "images": 60_000, "test_images": 10_000, "pooling": 1, "depth": 48, "width": 1024,
            "epochs": 90, "cnn_epochs": 90, "convolutions": 50, "channels": 64,
        },
    },
    claims=[
        Claim(
            "a trained guide helps a deep fully connected network", "Table 1",
            difference("accuracy", "guided-trained", "plain") > 0.02,
        ),
        Claim(
            "an untrained guide helps too", "Table 1", difference("accuracy", "guided-random", "plain") > 0.01
        ),
        Claim(
            "a hundred guided steps are enough to help", "Sec. 5",
            difference("accuracy", "guided-100-steps", "plain") > 0.005,
        ),
        Claim(
            "guidance narrows the gap to the training data", "Fig. 3",
            difference("gap", "plain", "guided-trained") > 0.02,
        ),
        Claim(
            "it is the guide's architecture that helps, not any guide", "Sec. 4",
            difference("accuracy", "guided-trained", "wrong-guide") > 0.01,
        ),
        Claim(
            "guided by its residual twin a plain deep CNN gains", "Table 1",
            difference("accuracy", "cnn-guided", "cnn-plain") > 0.03,
        ),
        Claim("and comes close to it", "Table 1", difference("accuracy", "cnn-resnet", "cnn-guided") < 0.08),
    ],
    figures=[
        Curve(
            "The deep fully connected network, alone and guided",
            arms=("plain", "guided-trained", "guided-random", "guided-100-steps", "wrong-guide"),
            x="epoch", y="accuracy",
        ),
        Curve("A deep CNN without shortcuts", arms=("cnn-plain", "cnn-guided", "cnn-resnet"), x="epoch", y="accuracy"),
        Curve(
            "How far the representations are from the guide's",
            arms=("guided-trained", "guided-random", "guided-noise", "wrong-guide"), x="epoch", y="distance",
        ),
        Bars("Final test accuracy", metric="accuracy"),
    ],
    seeds=(3, 4),
)  # fmt: skip
