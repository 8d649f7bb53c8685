"""Layers of piecewise affine operations that look at each channel by itself: batch norm, and its mean over an image."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from neurarium.layers import pam


class PAMBatchNorm(_BatchNorm):
    """`torch.nn.BatchNorm1d`, `BatchNorm2d` and `BatchNorm3d` of piecewise affine operations (`pam.batch_norm`).

    One class for all: inputs are [batch, channels] with any dimensions after them. Parameters and buffers are torch's.

    Args:
        in_channels: channels, torch's ``num_features``.
        eps: added to the variance.
        momentum: weight of a batch in the running statistics; None for the mean over all batches.
        affine: learn a gain and a shift per channel.
        track_running_stats: keep running statistics for evaluation, else use every batch's own.
        approximate_backward: see `pam.mul`.
        device: of the parameters.
        dtype: of the parameters.
    """

    def __init__(
        self, in_channels: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
        track_running_stats: bool = True, *, approximate_backward: bool = True,
        device: torch.device | str | None = None, dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__(in_channels, eps, momentum, affine, track_running_stats, device, dtype)
        self.approximate_backward = approximate_backward

    def forward(self, input: Float[Tensor, "batch in_channels *sides"]) -> Float[Tensor, "batch in_channels *sides"]:
        """The norm; in training it moves the running statistics.

        Raises:
            ValueError: an input of another number of channels, or of one value per channel in training.
        """
        if input.ndim < 2 or input.shape[1] != self.num_features:
            raise ValueError(f"input must be [batch, {self.num_features}, ...], not {tuple(input.shape)}")
        momentum = self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            momentum = 1 / int(self.num_batches_tracked) if momentum is None else momentum
        return pam.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias,
            self.training or self.running_mean is None, 0.0 if momentum is None else momentum, self.eps,
            approximate_backward=self.approximate_backward,
        )  # fmt: skip


class PAMGlobalAvgPool2d(nn.AdaptiveAvgPool2d):
    """`torch.nn.AdaptiveAvgPool2d(1)`: the mean of each channel, its division piecewise affine (`pam.mean`).

    Args:
        approximate_backward: see `pam.mul`.
    """

    def __init__(self, *, approximate_backward: bool = True) -> None:
        super().__init__(1)
        self.approximate_backward = approximate_backward

    def forward(self, input: Float[Tensor, "*batch height width"]) -> Float[Tensor, "*batch 1 1"]:
        """Sides of 1."""
        return pam.mean(input, (-2, -1), keepdim=True, approximate_backward=self.approximate_backward)
