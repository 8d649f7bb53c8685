"""Losses on images of organs: overlap of masks, local correlation, and batches whose members differ in task."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

VARIANCE = 0.05  # of an image's values, by which the paper scales squared errors


def soft_dice_loss(
    prediction: Float[Tensor, "batch ..."], target: Float[Tensor, "batch ..."], reduction: str = "mean"
) -> Tensor:
    """1 - (2 sum p q + 1) / (sum p² + sum q² + 1): how little two masks overlap.

    Args:
        prediction: probabilities.
        target: a mask, or probabilities.
        reduction: "mean" over the batch, or "none" for one number each.
    """
    p, q = prediction.flatten(1), target.flatten(1)
    loss = 1 - (2 * (p * q).sum(1) + 1) / (p.square().sum(1) + q.square().sum(1) + 1)
    return _reduced(loss, reduction)


def local_ncc_loss(
    prediction: Float[Tensor, "batch channels *space"],
    target: Float[Tensor, "batch channels *space"],
    window: int = 9,
    reduction: str = "mean",
) -> Tensor:
    """1 - the mean over windows of the squared correlation of two images, blind to contrast; for registration.

    Args:
        prediction: images or volumes.
        target: of the same shape.
        window: side of a window, odd; it is cut at the border.
        reduction: "mean" over the batch, or "none" for one number each.

    Raises:
        ValueError: an even window.
    """
    if window % 2 == 0:
        raise ValueError(f"window must be odd, not {window}")
    pool = {3: F.avg_pool1d, 4: F.avg_pool2d, 5: F.avg_pool3d}[prediction.dim()]

    def mean(x: Tensor) -> Tensor:
        found: Tensor = pool(x, window, 1, window // 2, count_include_pad=False)
        return found

    space = tuple(range(2, prediction.dim()))
    p, q = (x - x.mean(space, keepdim=True) for x in (prediction, target))  # small numbers keep their digits
    p_mean, q_mean = mean(p), mean(q)
    across = mean(p * q) - p_mean * q_mean
    spread = (mean(p * p) - p_mean.square()) * (mean(q * q) - q_mean.square())
    return _reduced(1 - (across.square() / (spread + 1e-5)).flatten(1).mean(1), reduction)


def imaging_loss(
    output: Float[Tensor, "batch channels *space"], target: Tensor, masks: Sequence[bool] | Tensor
) -> Float[Tensor, ""]:
    """Mean of each member's own loss: soft Dice of the sigmoid for masks, squared error / (2 · 0.05) for intensities.

    Args:
        output: of a network, before any activation.
        target: of the same shape.
        masks: which members are masks.
    """
    chosen = torch.as_tensor(masks, device=output.device)
    dice = soft_dice_loss(output.sigmoid(), target, "none")
    error = (output - target).square().flatten(1).mean(1) / (2 * VARIANCE)
    return torch.where(chosen, dice, error).mean()


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    if reduction not in ("mean", "none"):
        raise ValueError(f"reduction must be 'mean' or 'none', not {reduction!r}")
    return loss.mean() if reduction == "mean" else loss
