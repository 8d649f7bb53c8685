"""How near a reconstruction is, in decibels."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def psnr(prediction: Float[Tensor, "signals ..."], target: Tensor, peak: float = 1.0) -> Float[Tensor, " signals"]:
    """Peak signal-to-noise ratio of each signal: -10 log10(mean squared error / peak²).

    Args:
        prediction: a signal per row of the first dimension.
        target: of the same shape.
        peak: the largest value that the signal can have.

    Raises:
        ValueError: the shapes differ.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"prediction and target differ in shape: {tuple(prediction.shape)} and {tuple(target.shape)}")
    error = (prediction - target).square().flatten(1).mean(1) / peak**2
    return -10 * error.log10()
