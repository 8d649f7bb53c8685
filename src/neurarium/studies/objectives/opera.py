"""Instances and classes are learned together where each has a projection of its own, one above the other.

Wang et al. pre-train one backbone with both supervisions: two views of an image are to find each other among all
images (MoCo v3), and images of a class are to be told from a projection *of* the representation on which that happens.
They report that the features transfer better than those of either supervision alone, after 150 epochs of ImageNet with
a ResNet-50 and 150 to 300 with DeiT, and that both on one representation contradict each other.

Small: classes 0 to 5 of Fashion-MNIST, 6,000 images averaged to 14 x 14, three strided convolutions (16, 32, 64) with
batch normalisation and the mean over positions as 64 features, projector and predictor with 128 hidden units,
projections of 32, a temperature of .2, 250 steps in batches of 128, AdamW with a rate of 1e-2 that warms up and falls
along a cosine: the best of 1e-3, 3e-3 and 1e-2 for OPERA and for labels alone by their mean over the three probes on
seed 100. Views: crops of 40 % to all of the area, flips, changes of brightness and contrast. Every arm sees two views
of each image; ``supervised`` is the classification through the stack of OPERA, without the contrast. Then the backbone
is frozen and logistic regression is fitted on its features: of 6,000 source images; of 20 images of each of the classes
6 to 9; of 20 images of each digit of MNIST. The last two are averages over ten draws of the labelled images.

``pulled`` is measured on 512 training images after training: the share of pairs of two images of one class for which a
step of one towards the other's key lowers the loss of the classes, while as negatives of each other the two are pushed
apart. ``opposed`` counts those that contrast pushes apart on the whole, each image's attraction to its own other view
included.

Paper: ImageNet's folder is beyond what we can load; CIFAR-10 stands in, with a wide residual network, batches of 1,024,
about 150 epochs, projections of 256, AdamW in the place of LARS.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from neurarium.data import Arrays, Batches, load
from neurarium.lab import Bars, Claim, Curve, Metrics, Paper, Run, Study, difference, value
from neurarium.models import WideResNet
from neurarium.objectives import OmniSupervised, RandomViews
from neurarium.probes import knn_accuracy_curve, linear_probe, supervision_conflict
from neurarium.training import evaluation, fit, replace_module

SOURCE = 6
DRAWS = 10


@dataclass(frozen=True)
class Settings:
    """What the arms and scales change."""

    hierarchy: str = "self->full"
    self_weight: float = 0.5
    full_weight: float = 0.5
    learning_rate: float = 1e-2
    data: str = "fashion-mnist"
    other: str = "mnist"
    side: int = 14
    blur: float = 0.0
    images: int = 6000
    test: int = 5000
    shots: int = 20
    steps: int = 250
    batch_size: int = 128
    hidden: int = 128
    projection: int = 32
    depth: int = 0


def backbone(channels: int, depth: int) -> tuple[nn.Module, int]:
    """Three strided convolutions and the mean over positions, or a wide residual network; and its width."""
    if depth:
        network = WideResNet(depth, 4, in_channels=channels)
        return replace_module(network, "head", nn.Identity()), 256

    def block(before: int, after: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]

    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*block(channels, 16), *block(16, 32), *block(32, 64), *pool), 64


def images(name: str, settings: Settings, run: Run) -> tuple[Arrays, Arrays]:
    """Some training and test images, standardised, with a channel dimension, as small as asked."""
    split = load(name)
    train = split.train.subset(min(2 * settings.images, len(split.train)), run.seed)
    test = split.test.subset(min(settings.test, len(split.test)), run.seed)
    split = replace(split, train=train, test=test, validation=train[:1]).scaled()
    if split.train.x.dim() == 3:
        split = split.map_inputs(lambda x: x.unsqueeze(1))
    split = split.map_inputs(lambda x: adaptive_avg_pool2d(x, settings.side))
    return split.train.to(run.device), split.test.to(run.device)


@torch.no_grad()
def embedded(opera: OmniSupervised, arrays: Arrays) -> Arrays:
    """Features in the place of images."""
    with evaluation(opera):
        return Arrays(torch.cat([opera.features(part) for part in arrays.x.split(500)]), arrays.y)


def few_shot_probe(train: Arrays, test: Arrays, shots: int, seed: int) -> float:
    """Mean accuracy of logistic regression on some examples of each class, over several draws."""
    total = 0.0
    for draw in range(DRAWS):
        g = torch.Generator().manual_seed(1000 * seed + draw)
        order = torch.randperm(len(train), generator=g).to(train.y.device)
        chosen = torch.cat([order[train.y[order] == label][:shots] for label in train.y.unique()])
        total += linear_probe(train.x[chosen], train.y[chosen], test.x, test.y, l2=1e-2).accuracy
    return total / DRAWS


def trial(settings: Settings, run: Run) -> Metrics:
    """Pre-train by one or both supervisions, freeze, and read the features."""
    train, test = images(settings.data, settings, run)
    source = train[train.y < SOURCE][: settings.images]
    network, width = backbone(train.x.shape[1], settings.depth)
    opera = OmniSupervised(
        network, width, SOURCE, hidden_dim=settings.hidden, projection_dim=settings.projection,
        hierarchy=settings.hierarchy, self_weight=settings.self_weight, full_weight=settings.full_weight,
        total_steps=settings.steps,
        views=RandomViews(blur=settings.blur, generator=torch.Generator().manual_seed(run.seed)),
    ).to(run.device)  # fmt: skip
    optimizer = torch.optim.AdamW(opera.parameters(), settings.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps + 1, pct_start=0.1
    )
    loader = Batches(source, min(settings.batch_size, len(source)), shuffle=True, drop_last=True, seed=run.seed)
    left, done = settings.steps, 0
    while left > 0:
        for x, y in run.track(loader, "steps"):
            if left == 0:
                break
            fit(opera, [(x, y)], optimizer)
            schedule.step()
            left, done = left - 1, done + 1
            if done % max(settings.steps // 20, 1) == 0:
                run.record(step=done, **{name: float(part) for name, part in opera.last.items()})
    few = source[: min(512, len(source))]
    conflict = supervision_conflict(opera, opera.views(few.x), opera.views(few.x), few.y)
    components(embedded(opera, few), run)
    return transfer(opera, settings, run, source, train, test) | {
        "gradient_cosine": conflict.mean_cosine,
        "backbone_cosine": conflict.backbone_cosine,
        "gradient_ratio": conflict.norm_ratio,
        "pulled": conflict.pulled,
        "opposed": conflict.opposed,
    }


def transfer(
    opera: OmniSupervised, settings: Settings, run: Run, source: Arrays, train: Arrays, test: Arrays
) -> dict[str, float]:
    """Accuracy on the source's classes, on those that it lacked, and on another set."""
    known, unseen = embedded(opera, source), embedded(opera, test[test.y < SOURCE])
    fresh = train[train.y >= SOURCE][:5000]
    digits, digit_test = images(settings.other, settings, run)
    digits = digits[:5000]
    found = {
        "source_probe": linear_probe(known.x, known.y, unseen.x, unseen.y).accuracy,
        "source_neighbour": knn_accuracy_curve(known.x, known.y, unseen.x, unseen.y, k=1).accuracies[0],
        "new_class_probe": few_shot_probe(
            embedded(opera, fresh), embedded(opera, test[test.y >= SOURCE]), settings.shots, run.seed
        ),
        "digit_probe": few_shot_probe(embedded(opera, digits), embedded(opera, digit_test), settings.shots, run.seed),
    }
    return found | {"transfer_probe": (found["new_class_probe"] + found["digit_probe"]) / 2}


def components(features: Arrays, run: Run) -> None:
    """Share of the features' variance in each principal direction: how many they use."""
    spectrum: Tensor = torch.linalg.svdvals(features.x.double() - features.x.double().mean(0)).square()
    for k, share in enumerate((spectrum.cumsum(0) / spectrum.sum()).tolist()[:24], start=1):
        run.record(directions=k, variance_explained=share)


STUDY = Study(
    paper=Paper(
        "OPERA: Omni-Supervised Representation Learning with Hierarchical Supervisions",
        "Wang, Zheng, Zhu, Zhou, Lu",
        2022,
        arxiv="2210.05557",
    ),
    trial=trial,
    arms={
        "supervised": Settings(self_weight=0.0),
        "self": Settings(full_weight=0.0),
        "shared": Settings(hierarchy="shared"),
        "opera": Settings(),
    },
    scales={
        "smoke": {
            "data": "mnist-small", "other": "mnist-small", "images": 128, "test": 200, "shots": 3, "steps": 4,
            "batch_size": 32,
        },
        "paper": {
            "data": "cifar10", "images": 30_000, "steps": 4400, "batch_size": 1024, "hidden": 4096,
            "projection": 256, "depth": 28, "side": 32, "blur": 0.5,
        },
    },
    claims=[
        Claim(
            "Labels on their own level teach what contrast alone does not: the source's classes",
            "Fig. 1, ImageNet linear probe",
            difference("source_probe", "opera", "self") > 0.02,
            published="74.8 % against 70.5 (ResNet-50), 73.7 against 71.2 (DeiT-S)",
        ),
        Claim(
            "On classes that it never saw it is ahead of supervision alone",
            "Fig. 1, CIFAR-100",
            difference("new_class_probe", "opera", "supervised") > 0.005,
            published="86.8 % against 85.5 (ResNet-50), 89.0 against 86.9 (DeiT-B)",
        ),
        Claim(
            "Over new classes and another set it is as good as contrast alone",
            "Fig. 1",
            difference("transfer_probe", "opera", "self") > -0.005,
            published="CIFAR-100: 86.8 % against 86.0 (ResNet-50)",
        ),
        Claim(
            "And ahead of supervision alone",
            "Fig. 1",
            difference("transfer_probe", "opera", "supervised") > 0,
            published="CIFAR-100: 86.8 % against 85.5 (ResNet-50)",
        ),
        Claim(
            "On one representation labels pull together what contrast pushes apart (pairs of one class)",
            "section 3.2",
            value("pulled", "shared") > 0.95,
        ),
    ],
    seeds=(4, 4),
    figures=[
        Curve("Both losses fall together: contrast", x="step", y="instances"),
        Curve("Both losses fall together: classification", x="step", y="labels"),
        Bars("Logistic regression on the source's classes", metric="source_probe"),
        Bars("On four classes never seen, 20 labels each", metric="new_class_probe"),
        Bars("On handwritten digits, 20 labels each", metric="digit_probe"),
        Curve("Supervision alone uses few directions", x="directions", y="variance_explained"),
        Bars("Cosine of the two gradients at the lowest projection", metric="gradient_cosine"),
    ],
)  # fmt: skip
