"""Half of the channels go around a stage's blocks: a third of the multiply-adds goes away, the accuracy stays.

Wang et al. split the channels that enter a stage, send one part through its blocks and join both at its end. On
ImageNet Darknet-53 keeps its top-1 accuracy of 77.2 % with 30 % less arithmetic, ResNet-50, ResNeXt-50 and a DenseNet
keep theirs with 8 to 22 % less; one transition behind the join ("fusion first") costs about 1.5 points, they say.

Small: Darknet-type networks on Fashion-MNIST, 9,600 images seen once, half of them mirrored. A stem of 24 channels with
stride and pooling, two stages of 24 and 48 channels at 7 x 7 and 4 x 4 with three blocks each. In the plain networks a
block's middle has half of its channels, in the partial ones as many as its ends, as in the release. ``csp`` joins by
two transitions, ``csp-first`` by one behind the concatenation; ``narrow`` is a control of ours: the plain network with
all widths scaled by .85, which has the multiply-adds of ``csp``. SGD with momentum .9 from .1 along a cosine, decay
5e-4, 300 steps of 32. The rate is the better of .05 and .1 for ``plain`` and for ``csp`` on seed 100; all arms take it.
Multiply-adds and traffic (numbers that convolutions read and write) hold by construction, so they are shown and not
claimed. The gradients of the two paths are those of the rows of the first 1 x 1 convolution of a stage, root mean
square.

Paper: the same on CIFAR-10 with stages of 64, 128 and 256 channels and 1, 2 and 8 blocks, 200 epochs; ``--set
data=FOLDER`` trains on a folder of images, and `csp_darknet53` and the others are the published networks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from typing import Literal

import torch
from torch.nn.functional import cross_entropy

from neurarium.data import Arrays, Batches, load
from neurarium.lab import Claim, Curve, Metrics, Paper, Run, Scatter, Study, difference
from neurarium.layers import CrossStagePartial
from neurarium.models import CSPNet, CSPStage
from neurarium.probes import convolution_traffic
from neurarium.studies.models._augment import mirrored
from neurarium.training import accuracy, evaluate


@dataclass(frozen=True)
class Settings:
    """What the arms and scales change."""

    kind: Literal["plain", "both", "first", "last"] = "both"
    share: float = 1.0
    data: str = "fashion-mnist"
    images: int = 9_600
    test: int = 5_000
    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 0.1
    widths: tuple[int, ...] = (24, 48)
    depths: tuple[int, ...] = (3, 3)
    stride: int = 2


def network(settings: Settings, channels: int, classes: int) -> CSPNet:
    """The stages of an arm; the plain blocks are half as wide in their middle."""
    partial = settings.kind != "plain"
    widths = [round(settings.share * width) for width in settings.widths]
    stages = [
        CSPStage(
            width, depth, 1 if index == 0 else 2, ratio=1.0 if partial else 0.5, is_partial=partial,
            fusion="both" if settings.kind == "plain" else settings.kind,
        )
        for index, (width, depth) in enumerate(zip(widths, settings.depths, strict=True))
    ]  # fmt: skip
    return CSPNet(stages, (widths[0], 3, settings.stride), in_channels=channels, num_classes=classes)


def path_gradients(model: CSPNet) -> dict[str, float]:
    """Root mean square gradients at the two parts of each partial stage."""
    found = {}
    stages = [module for module in model.modules() if isinstance(module, CrossStagePartial)]
    for number, stage in enumerate(stages, start=1):
        weight = next(stage.expand.parameters())
        if weight.grad is not None:
            for path, part in zip(("around", "through"), weight.grad.split(stage.split_sizes), strict=True):
                found[f"stage {number}, {path}"] = float(part.square().mean().sqrt())
    return found


def trial(settings: Settings, run: Run) -> Metrics:
    """Train one network and count what it costs."""
    split = load(settings.data).scaled().to(run.device)
    if split.train.x.dim() == 3:
        split = split.map_inputs(lambda x: x.unsqueeze(1))
    train = split.train.subset(min(settings.images, len(split.train)), seed=run.seed)
    test = split.test.subset(min(settings.test, len(split.test)), seed=run.seed)
    model = network(settings, train.x.shape[1], len(split.classes)).to(run.device)
    cost = convolution_traffic(model, train.x[:1])
    losses = learn(model, train, test[:1000], settings, run)
    return {
        "accuracy": evaluate(model, Batches(test, 500)),
        "loss": losses,
        "multiply_adds": float(cost.total_multiply_adds),
        "traffic": float(cost.total_traffic),
        "parameters": float(sum(p.numel() for p in model.parameters())),
    }


def learn(model: CSPNet, train: Arrays, some: Arrays, settings: Settings, run: Run) -> float:
    """SGD along a cosine on images of which half are mirrored; the mean loss of the last tenth of the steps."""
    loader = Batches(train, settings.batch_size, shuffle=True, drop_last=True, seed=run.seed)
    steps, generator = settings.epochs * len(loader), torch.Generator().manual_seed(run.seed)
    optimizer = torch.optim.SGD(model.parameters(), settings.learning_rate, momentum=0.9, weight_decay=5e-4, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    counter, every, late = count(1), max(1, steps // 6), []
    for _ in run.track(range(settings.epochs), "epochs"):
        for x, y in loader:
            step = next(counter)
            optimizer.zero_grad()
            loss = cross_entropy(model(mirrored(x, generator)), y)
            loss.backward()
            if step % every == 0:
                for path, size in path_gradients(model).items():
                    run.record(step=step, gradient=size, path=path)
            optimizer.step()
            schedule.step()
            if step > 0.9 * steps:
                late.append(loss.detach())
            if step % every == 0:
                run.record(step=step, accuracy=evaluate(model, Batches(some, 500), accuracy))
    return float(torch.stack(late).mean())


PARTIAL = ("csp", "csp-first")

STUDY = Study(
    paper=Paper(
        "CSPNet: A New Backbone that can Enhance Learning Capability of CNN", "Wang et al.", 2019, arxiv="1911.11929"
    ),
    trial=trial,
    arms={
        "plain": Settings("plain"),
        "csp": Settings("both"),
        "csp-first": Settings("first"),
        "narrow": Settings("plain", share=0.85),
    },
    scales={
        "smoke": {"data": "mnist-small", "images": 128, "test": 100, "batch_size": 16, "widths": (8, 12)},
        "paper": lambda settings: replace(
            settings, data="cifar10", images=50_000, test=10_000, epochs=200, batch_size=128,
            widths=(64, 128, 256), depths=(1, 2, 8), stride=1,
        ),
    },
    claims=[
        Claim(
            "Partial stages keep the plain network's accuracy with less arithmetic",
            "Table 1, CSPDarknet53",
            difference("accuracy", "csp", "plain") > -0.02,
            published="77.2 % against 77.2 %, 30 % less arithmetic",
        ),
        Claim(
            "Splitting beats merely narrowing to the same arithmetic",
            "control of ours",
            difference("accuracy", "csp", "narrow") > 0,
        ),
        Claim(
            "A transition before the join beats one behind it alone",
            "section 3.2, Fig. 3",
            difference("accuracy", "csp", "csp-first") > 0,
            published="fusion first loses about 1.5 points",
        ),
    ],
    figures=[
        Scatter("Accuracy against multiply-adds of an image", x="multiply_adds", y="accuracy"),
        Curve("Accuracy during training", x="step", y="accuracy"),
        Curve(
            "Size of the gradients of the two paths of each stage",
            PARTIAL, x="step", y="gradient", series="path", log_y=True,
        ),
        Scatter("Numbers that convolutions read and write, per image", x="traffic", y="accuracy"),
    ],
    seeds=(5, 8),
)  # fmt: skip
