"""Overlap of predicted and true regions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurarium.probes._result import ProbeResult


@dataclass(frozen=True)
class SegmentationScores(ProbeResult):
    """Scores over all pixels that count.

    Args:
        iou: by class, pixels in both over pixels in either; NaN for a class that is neither predicted nor there.
        accuracy: share of pixels that are right.
        foreground_accuracy: the same over pixels whose true class is not 0.
    """

    iou: Float[Tensor, " classes"]
    accuracy: float
    foreground_accuracy: float

    @property
    def mean_iou(self) -> float:
        """Mean over the classes that occur."""
        return float(self.iou.nanmean())

    def summary(self) -> str:
        """One sentence."""
        return (
            f"mean IoU {self.mean_iou:.3f}, {self.accuracy:.1%} of the pixels right, "
            f"{self.foreground_accuracy:.1%} of those that are not background"
        )

    def plot(self, ax: Any) -> Any:
        """A bar for each class."""
        ax.bar(range(len(self.iou)), self.iou.nan_to_num(0.0).cpu())
        ax.set(xlabel="class", ylabel="intersection over union")
        return ax


@torch.no_grad()
def segmentation_scores(
    logits: Float[Tensor, "batch classes *positions"],
    labels: Int[Tensor, " batch *others"],
    ignore: int | None = None,
) -> SegmentationScores:
    """Compare the most probable class of each pixel with the true one.

    Args:
        logits: of a segmentation network.
        labels: class of each pixel.
        ignore: a label that does not count.

    Raises:
        ValueError: logits and labels are for other positions, or no pixel counts.
    """
    if logits.shape[:1] + logits.shape[2:] != labels.shape:
        raise ValueError(f"logits are for {list(logits.shape[2:])} positions, labels for {list(labels.shape[1:])}")
    counted = torch.ones_like(labels, dtype=torch.bool) if ignore is None else labels != ignore
    found, truth = logits.argmax(1)[counted], labels[counted].long()
    if not len(truth):
        raise ValueError("no pixel counts: all have the label that is ignored")
    classes = logits.shape[1]
    table = torch.bincount(truth * classes + found, minlength=classes**2).view(classes, classes).double()
    right = table.diagonal()
    either = table.sum(0) + table.sum(1) - right
    iou = torch.where(either > 0, right / either.clamp_min(1), torch.nan)
    foreground = truth != 0
    return SegmentationScores(
        iou.to(logits.dtype), float(right.sum() / table.sum()), float((found == truth)[foreground].double().mean())
    )
