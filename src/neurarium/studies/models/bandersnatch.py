"""Stages that double behind every activation train a path that is better than the same network trained alone.

Daliparthi lets every activation of a residual network hand its output to two copies of the next stage, never joins
them, gives each of the eight ends a head and trains all by their mean loss. One path from the input to a head has the
size and cost of the ordinary network; the release reports 80.48 % for the best head on CIFAR-100 against 78.61 for the
ordinary network over five runs, and 82.19 for the vote of all heads. It picks head and epoch on the test set.

Small: CIFAR-10 (its JPEG copy), 1,200 training, 2,000 validation and 2,000 test images without augmentation;
channels 12-24-48-96, one residual block a stage, the first convolution
with stride 2; SGD with the paper's rate .1, momentum .9 and weight decay 5e-4, a cosine over 16 epochs of batches of
64, the same for both arms and not tuned. Arms: ``baseline`` and ``bandersnatch`` with 8 heads;
``--set loss_scale=0.125`` gives the baseline what a last stage gets of the mean over eight heads. ``top_head`` is the
test accuracy of the head that is best on validation, ``test_picked`` that of the best on the test set, as in the
release; what it is ahead is luck alone. Costs are multiply-adds of a forward pass, a third of a training step.

Paper: all images with crops and flips, channels 64 to 512, r = 3 (``--set blocks=0`` to 3), 200 epochs of batches of
128; ``--set data=cifar100`` where a folder of that name is given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from neurarium.data import Arrays, Batches, load
from neurarium.lab import Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Scatter, Study, difference, value
from neurarium.learning import Backprop
from neurarium.models import BranchingNetwork, bandersnatch
from neurarium.objectives import combine, head_accuracies, heads_loss
from neurarium.probes import convolution_traffic
from neurarium.training import evaluation, fit


@dataclass(frozen=True)
class Settings:
    """``branches`` behind each stage but the last; the loss is multiplied by ``loss_scale``."""

    branches: tuple[int, ...] = (2, 2, 2)
    loss_scale: float = 1.0
    data: str = "cifar10"
    blocks: int = 1
    widths: tuple[int, ...] = (12, 24, 48, 96)
    stem_stride: int = 2
    augment: bool = False
    train: int = 1_200
    validation: int = 2_000
    test: int = 2_000
    batch_size: int = 64
    epochs: int = 16
    lr: float = 0.1


def trial(settings: Settings, run: Run) -> Metrics:
    """Train all heads together; ask each alone and all together."""
    train, validation, test, classes = images(settings, run)
    model = bandersnatch(
        settings.blocks, classes, settings.branches, widths=settings.widths, in_channels=train.x.shape[1],
        stem_stride=settings.stem_stride,
    ).to(run.device)  # fmt: skip
    rule = Backprop(model, lambda outputs, y: settings.loss_scale * heads_loss(outputs, y))
    optimizer = torch.optim.SGD(model.parameters(), settings.lr, momentum=0.9, weight_decay=5e-4, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs)
    batches = Batches(train, settings.batch_size, shuffle=True, drop_last=True, seed=run.seed)
    generator = torch.Generator().manual_seed(run.seed)
    for epoch in run.track(range(1, settings.epochs + 1), "epochs"):
        loader = ((shifted(x, generator), y) for x, y in batches) if settings.augment else batches
        loss = fit(rule, loader, optimizer)[0] / settings.loss_scale
        schedule.step()
        if epoch % max(1, settings.epochs // 8) == 0:
            run.record(epoch=epoch, loss=loss, mean_head_by_epoch=float(heads(model, validation).mean()))
    return findings(model, validation, test, run)


def findings(model: BranchingNetwork, validation: Arrays, test: Arrays, run: Run) -> Metrics:
    """Accuracies of heads and of their combinations, how far heads agree, and what all of it costs."""
    checked, found = heads(model, validation), heads(model, test)
    outputs = answers(model, test)

    def right(scores: Tensor) -> float:
        return float((scores.argmax(-1) == test.y).float().mean())

    labels = outputs.argmax(-1)
    for a in range(model.heads):
        run.record(head=a, head_accuracy=float(found[a]))
        for b in range(model.heads):
            run.record(one=a, other=b, agreement=float((labels[a] == labels[b]).float().mean()))
    image = test.x[:1]
    chosen = int(checked.argmax())
    metrics = {
        "top_head": float(found[chosen]),
        "mean_head": float(found.mean()),
        "test_picked": float(found.max()),
        "disagreement": disagreement(labels),
        "multiply_adds": float(convolution_traffic(model, image).total_multiply_adds),
        "path_multiply_adds": float(convolution_traffic(model.path(chosen), image).total_multiply_adds),
        "parameters": float(sum(p.numel() for p in model.parameters())),
        "path_parameters": float(sum(p.numel() for p in model.path(chosen).parameters())),
        "weighted": right(combine(outputs, "weighted", checked)),
    }
    return metrics | {how: right(combine(outputs, how)) for how in ("vote", "probability", "product", "rank")}


def heads(model: nn.Module, part: Arrays) -> Tensor:
    """Each head's accuracy."""
    return head_accuracies(model, Batches(part, 500))


@torch.no_grad()
def answers(model: nn.Module, part: Arrays) -> Tensor:
    """What all heads give for all images."""
    with evaluation(model):
        return torch.cat([model(x) for x in part.x.split(500)], 1)


def disagreement(labels: Tensor) -> float:
    """Share of images on which two heads differ, over all pairs."""
    n = len(labels)
    if n < 2:
        return 0.0
    differ = (labels[:, None] != labels).float().mean(-1)
    return float(differ.sum()) / (n * (n - 1))


def images(settings: Settings, run: Run) -> tuple[Arrays, Arrays, Arrays, int]:
    """Training, validation and test images, standardised, and the number of classes."""
    split = load(settings.data)
    chosen = split.train.subset(settings.train + settings.validation, seed=run.seed)
    train, validation = chosen[: settings.train], chosen[settings.train :]
    split = replace(split, train=train, validation=validation, test=split.test[: settings.test])
    split = split.scaled().to(run.device)
    if split.train.x.dim() == 3:
        split = split.map_inputs(lambda x: x.unsqueeze(1))
    return split.train, split.validation, split.test, len(split.classes)


def shifted(x: Tensor, generator: torch.Generator) -> Tensor:
    """Crops of the images with four black pixels around them, half of them mirrored."""
    n, side = len(x), x.shape[-1]
    offsets = torch.randint(9, (2, n, 1), generator=generator) + torch.arange(side)
    mirrored = torch.rand(n, 1, generator=generator) < 0.5
    rows, columns = offsets[0], torch.where(mirrored, offsets[1].flip(1), offsets[1])
    around, index = pad(x, (4,) * 4), torch.arange(n)[:, None, None]
    return around.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


STUDY = Study(
    paper=Paper(
        "ANDHRA Bandersnatch: Training Neural Networks to Predict Parallel Realities", "Daliparthi", 2024,
        arxiv="2411.19213",
    ),
    trial=trial,
    arms={
        "baseline": Settings(branches=(1, 1, 1)),
        "bandersnatch": Settings(),
    },
    scales={
        "smoke": {
            "data": "mnist-small", "widths": (4, 5, 6, 8), "train": 64, "validation": 64, "test": 64, "epochs": 1,
            "batch_size": 16,
        },
        "paper": {
            "widths": (64, 128, 256, 512), "blocks": 3, "stem_stride": 1, "augment": True, "train": 45_000,
            "validation": 5_000, "test": 10_000, "batch_size": 128, "epochs": 200,
        },
    },
    seeds=(3, 3),
    claims=[
        Claim(
            "The best head beats the same network trained alone", "abstract, results",
            difference("top_head", "bandersnatch", "baseline") > 0.005,
            published="80.48 % against 78.61 (CIFAR-100, five runs)",
        ),
        Claim(
            "The vote of all heads beats the network trained alone", "results",
            difference("vote", "bandersnatch", "baseline") > 0.01, published="82.19 % against 78.61",
        ),
        Claim(
            "The vote beats the heads that vote", "results",
            value("vote", "bandersnatch") - value("mean_head", "bandersnatch") > 0.005,
            published="82.19 % against 80.48 (best head)",
        ),
        Claim(
            "Picked on the test set, the best head is better than itself", "the release's protocol (our check)",
            value("test_picked", "bandersnatch") - value("top_head", "bandersnatch") > 0.003,
        ),
    ],
    figures=[
        Curve("Test accuracy of every head; the ordinary network has one", x="head", y="head_accuracy"),
        Heatmap(
            "How often two heads give one answer: blocks by common ancestors", arms=("bandersnatch",), x="one",
            y="other", value="agreement",
        ),
        Scatter("Accuracy of the vote over the cost of training", x="multiply_adds", y="vote"),
        Bars("The vote of all heads", metric="vote"),
        Bars("The head chosen on validation", metric="top_head"),
        Curve("Validation accuracy of the mean head by epoch", x="epoch", y="mean_head_by_epoch"),
        Curve("Training loss by epoch", x="epoch", y="loss", log_y=True),
    ],
)  # fmt: skip
