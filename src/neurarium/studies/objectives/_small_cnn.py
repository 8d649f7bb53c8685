"""The small convolutional network of the studies on objectives."""

from __future__ import annotations

import math

from torch import nn


def small_cnn(channels: int, side: int, classes: int) -> nn.Sequential:
    """Three strided convolutions with batch normalisation, and a hidden layer whose output is the feature.

    Args:
        channels: of the images.
        side: their height and width.
        classes: outputs.
    """

    def block(before: int, after: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]

    positions = math.ceil(side / 8) ** 2
    return nn.Sequential(
        *block(channels, 16), *block(16, 32), *block(32, 64),
        nn.Flatten(), nn.Linear(64 * positions, 64), nn.ReLU(), nn.Linear(64, classes),
    )  # fmt: skip
