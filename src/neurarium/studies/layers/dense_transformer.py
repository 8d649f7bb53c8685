"""A warp in the encoder and its reverse in the decoder: what it is worth where the right warp is known, and where not.

Li et al. put a thin plate spline that depends on the image behind a convolution of a U-Net's encoder and the reverse of
the same spline into its decoder, so that convolutions between the two see patches of learned shape and every pixel
still gets its label in its place. On PASCAL VOC 2012 and on neuron membranes (SNEMI3D) they report better pixel
accuracy and mean IoU than the same U-Net without the pair.

Small: axial slices of one real brain (Colin-27, every third held out, eight groups of AAL's regions and background),
480 training and 400 test images of 32 x 32, each a slice turned by up to 60 degrees, scaled by .75 to 1.2, shifted by
up to 10 %, bent by a smooth field, with noise. U-Net of 8, 16 and 32 channels; the pair stands at the 16 x 16 level
with 4 x 4 control points. Adam from 3e-3 (the localisation from 1e-3) along a cosine, 8 epochs of 16; rates were not
tuned. ``known`` has the same pair, but its grid is made from the true turn, scale and shift: what the mechanism gives
where the localisation makes no error. ``known-encoder-only`` bends by that grid and does not bend back. Both are
controls of ours. ``step_ms`` is processor time of a training step.

Paper: the release's network (depth 5 from 64 channels, pair at level 3, control points that start at tanh of -5 to 5)
on 256 x 256 slices of the same brain; its own data sets have no loader here.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample, interpolate, one_hot

from neurarium.data import Arrays, Batches, colin27_slices, load
from neurarium.lab import Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Scatter, Study, difference
from neurarium.layers import DenseTransformer, splat
from neurarium.models import UNet
from neurarium.probes import segmentation_scores, warp_summary
from neurarium.training import evaluation


@dataclass(frozen=True)
class Settings:
    """What the arms and scales change."""

    pair: Literal["none", "learned", "known", "known-encoder-only"] = "none"
    init: Literal["identity", "release"] = "identity"
    data: str = "colin27"
    images: int = 480
    test: int = 400
    side: int = 32
    epochs: int = 8
    batch_size: int = 16
    channels: tuple[int, ...] = (8, 16, 32)
    level: int = 1
    points: int = 4
    learning_rate: float = 3e-3
    localisation_rate: float = 1e-3


@dataclass(frozen=True)
class Views:
    """Moved slices.

    Args:
        images: [images, 1, side, side].
        labels: [images, side, side].
        inverse: affine map from places in the slice to places in the image [images, 2, 3].
        turn: degrees.
    """

    images: Tensor
    labels: Tensor
    inverse: Tensor
    turn: Tensor

    def to(self, device: str) -> Views:
        """The same on a device."""
        return Views(self.images.to(device), self.labels.to(device), self.inverse.to(device), self.turn.to(device))


class KnownWarp(nn.Module):
    """The pair with grids that are given, in the place of those of a localisation network.

    Args:
        restore: bend back in the decoder.
    """

    def __init__(self, restore: bool) -> None:
        super().__init__()
        self.restore = restore
        self.inverse = torch.zeros(0, 2, 3)  # of the batch that comes next

    def encode(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The map as it would be if the slice had not been moved."""
        grid = affine_grid(self.inverse, list(u.shape), align_corners=False)
        return grid_sample(u, grid, padding_mode="border", align_corners=False), grid

    def decode(self, v: Tensor, grid: Tensor) -> Tensor:
        """Back in the image's places."""
        return splat(v, grid, fallback=v)[0] if self.restore else v


def slices(name: str) -> tuple[Tensor, Tensor, int]:
    """Images in 0 to 1 and labels of square planes, and the number of classes; digits where no brain is at hand."""
    if name == "colin27":
        brain = colin27_slices("axial")
        images, labels = brain.images.float() / 133, brain.labels
        wide = (images.shape[1] - images.shape[2]) // 2
        pads = (wide, images.shape[1] - images.shape[2] - wide)
        return nn.functional.pad(images, pads), nn.functional.pad(labels, pads), len(brain.names)
    digits = load(name).train[:30]
    images = digits.x.float() / 255
    return images, torch.where(images > 0.4, digits.y[:, None, None] + 1, 0), 11


def moved(images: Tensor, labels: Tensor, count: int, side: int, generator: torch.Generator) -> Views:
    """Slices drawn at random, each turned, scaled, shifted and bent at random, and read at ``side`` positions."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    which = torch.randint(len(images), (count,), generator=generator)
    turn, scale = uniform(-math.pi / 3, math.pi / 3), uniform(0.75, 1.2)
    shift = torch.stack([uniform(-0.1, 0.1), uniform(-0.1, 0.1)], 1)[..., None]
    matrix = torch.stack([turn.cos(), -turn.sin(), turn.sin(), turn.cos()], 1).view(-1, 2, 2) / scale[:, None, None]
    grid = affine_grid(torch.cat([matrix, shift], 2), [count, 1, side, side], align_corners=False)
    coarse = 0.03 * torch.randn(count, 2, 5, 5, generator=generator)
    grid = grid + interpolate(coarse, (side, side), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    back = torch.linalg.inv(matrix)
    # Pixels are read from planes that were made about as small before, so that fine detail does not alias.
    shrink = max(1, images.shape[-1] // (2 * side))
    small = nn.functional.avg_pool2d(images[:, None], shrink) if shrink > 1 else images[:, None]
    x = grid_sample(small[which], grid, align_corners=False)
    y = grid_sample(labels[which, None].float(), grid, mode="nearest", align_corners=False)[:, 0].long()
    x = (x - x.mean()) / x.std() + 0.03 * torch.randn(x.shape, generator=generator)
    return Views(x, y, torch.cat([back, -back @ shift], 2), turn * 180 / math.pi)


def network(settings: Settings, classes: int) -> UNet:
    """The U-Net of an arm; its own weights are drawn first, so that all arms have them alike."""
    model = UNet(1, classes, settings.channels, transformer_at=settings.level)
    if settings.pair == "learned":
        size = settings.side // 2**settings.level
        points = (settings.points, settings.points)
        model.transformer = DenseTransformer(
            settings.channels[settings.level], (size, size), points, init=settings.init
        )  # fmt: skip
    elif settings.pair != "none":
        model.transformer = KnownWarp(settings.pair == "known")  # type: ignore[assignment]
    return model


def predict(model: UNet, views: Views, rows: Tensor) -> Tensor:
    """Logits; grids are told to those who know them."""
    if isinstance(model.transformer, KnownWarp):
        model.transformer.inverse = views.inverse[rows]
    logits: Tensor = model(views.images[rows])
    return logits


def trial(settings: Settings, run: Run) -> Metrics:
    """Train one network and look at its errors and its warps."""
    images, labels, classes = slices(settings.data)
    held_out = torch.arange(len(images)) % 3 == 2
    generator = torch.Generator().manual_seed(run.seed)
    train = moved(images[~held_out], labels[~held_out], settings.images, settings.side, generator).to(run.device)
    test = moved(images[held_out], labels[held_out], settings.test, settings.side, generator).to(run.device)
    torch.manual_seed(run.seed)
    model = network(settings, classes).to(run.device)
    seconds = learn(model, train, test, settings, run)
    with evaluation(model), torch.no_grad():
        rows = torch.arange(len(test.images), device=run.device)
        logits = torch.cat([predict(model, test, part) for part in rows.split(100)])
    scores = segmentation_scores(logits, test.labels)
    picture(logits, test, run)
    return {
        "mean_iou": scores.mean_iou,
        "accuracy": scores.accuracy,
        "foreground_accuracy": scores.foreground_accuracy,
        "step_ms": 1000 * seconds,
        "parameters": float(sum(p.numel() for p in model.parameters())),
        **warps(model, test),
    }


def learn(model: UNet, train: Views, test: Views, settings: Settings, run: Run) -> float:
    """Adam along a cosine; processor seconds of a step."""
    slow = [p for n, p in model.named_parameters() if n.startswith("transformer.")]
    fast = [p for n, p in model.named_parameters() if not n.startswith("transformer.")]
    groups: list[dict[str, Any]] = [{"params": fast}]
    if slow:
        groups.append({"params": slow, "lr": settings.localisation_rate})
    optimizer = torch.optim.Adam(groups, settings.learning_rate, fused=True)
    every = torch.arange(len(train.images), device=run.device)
    loader = Batches(Arrays(every, every), settings.batch_size, shuffle=True, drop_last=True, seed=run.seed)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * len(loader))
    some, spent = torch.arange(min(100, len(test.images)), device=run.device), 0.0
    for epoch in run.track(range(1, settings.epochs + 1), "epochs"):
        began, losses = time.process_time(), []
        for rows, _ in loader:
            optimizer.zero_grad()
            loss = cross_entropy(predict(model, train, rows), train.labels[rows])
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        spent += time.process_time() - began
        with evaluation(model), torch.no_grad():
            scores = segmentation_scores(predict(model, test, some), test.labels[some])
        run.record(
            epoch=epoch, loss=float(torch.stack(losses).mean()), foreground_accuracy=scores.foreground_accuracy
        )  # fmt: skip
    return spent / (settings.epochs * len(loader))


def picture(logits: Tensor, test: Views, run: Run) -> None:
    """Errors by how far a slice is turned, and where they are."""
    right = (logits.argmax(1) == test.labels) & (test.labels > 0)
    inside = test.labels > 0
    for low in range(0, 60, 15):
        chosen = (test.turn.abs() >= low) & (test.turn.abs() < low + 15) & inside.flatten(1).any(1)
        if bool(chosen.any()):
            share = right[chosen].sum() / inside[chosen].sum()
            run.record(turned=low + 7.5, foreground_accuracy_turned=float(share))
    truth = one_hot(test.labels, logits.shape[1]).permute(0, 3, 1, 2)
    sure = nn.functional.avg_pool2d((logits.softmax(1) * truth).sum(1, keepdim=True), 2).mean((0, 1))
    for down, row in enumerate(sure.flip(0).tolist()):
        for across, probability in enumerate(row):
            run.record(across=across, up=down, probability=probability)


def warps(model: UNet, test: Views) -> dict[str, float]:
    """How far the learned grids move positions, and what of them does not come back."""
    if not isinstance(model.transformer, DenseTransformer):
        return {}
    seen: list[Tensor] = []
    handle = model.transformer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with evaluation(model), torch.no_grad():
        model(test.images[:100])
    handle.remove()
    found = warp_summary(model.transformer, seen[0])
    moved = found.displacement.norm(dim=-1)
    return {
        "displacement": float(moved.mean()),
        "varying_displacement": float(found.displacement.std(0).mean()),
        "folded": float((found.area < 0).double().mean()),
        "kept": float(found.kept.mean()),
    }


KNOWN = ("known", "known-encoder-only")

STUDY = Study(
    paper=Paper("Dense Transformer Networks", "Li et al.", 2017, arxiv="1705.08881"),
    trial=trial,
    arms={
        "unet": Settings(),
        "dtn": Settings("learned"),
        "known": Settings("known"),
        "known-encoder-only": Settings("known-encoder-only"),
    },
    scales={
        "smoke": {
            "data": "mnist-small", "images": 24, "test": 12, "side": 16, "epochs": 1, "batch_size": 8,
            "channels": (4, 6, 8),
        },
        "paper": lambda settings: replace(
            settings, init="release", images=10_000, test=2_000, side=256, epochs=100, batch_size=10,
            channels=(64, 128, 256, 512, 1024), level=3, learning_rate=1e-3,
        ),
    },
    claims=[
        Claim(
            "A learned warp and its reverse improve the U-Net",
            "abstract",
            difference("mean_iou", "dtn", "unet") > 0.01,
        ),
        Claim(
            "The pair improves it where the warp is the right one",
            "control of ours",
            difference("foreground_accuracy", "known", "unet") > 0.03,
        ),
        Claim(
            "Without the reverse in the decoder the gain is lost",
            "section 3.3",
            difference("foreground_accuracy", "known", "known-encoder-only") > 0.03,
        ),
    ],
    figures=[
        Curve("Accuracy on pixels that are not background", x="epoch", y="foreground_accuracy"),
        Curve("Training loss", x="epoch", y="loss"),
        Curve("With a known warp it does not matter how far a slice is turned",
              x="turned", y="foreground_accuracy_turned"),
        Heatmap("Probability of the true label at each place, mean over test images", x="across", y="up",
                value="probability"),
        Bars("Mean intersection over union", metric="mean_iou"),
        Scatter("Accuracy against processor time of a step", x="step_ms", y="foreground_accuracy"),
    ],
    seeds=(3, 4),
)  # fmt: skip
