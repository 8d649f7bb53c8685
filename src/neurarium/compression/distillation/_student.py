"""A small network for any input shape, of about so many parameters."""

from __future__ import annotations

import math

from torch import nn


def small_student(shape: tuple[int, ...], out_features: int, parameters: int) -> nn.Module:
    """Two strided convolutions and two linear layers for images, two linear layers for vectors, as large as allowed.

    Convolutions are as wide as they can be while the hidden layer has a unit per map that they end in, and one per four
    outputs; what is left goes to the hidden layer.

    Args:
        shape: of one input: [features], [height, width] or [channels, height, width].
        out_features: size of the output.
        parameters: most parameters of the student.

    Raises:
        ValueError: not even the narrowest student fits.
    """
    images = len(shape) >= 2 and min(shape[-2:]) >= 8
    chosen: nn.Module | None = None
    channels = 1
    while True:
        smallest, step = (_count(_student(shape, out_features, channels, hidden)) for hidden in (1, 2))
        hidden = 1 + (parameters - smallest) // (step - smallest)
        if hidden < 1 or (chosen is not None and hidden < max(2 * channels, out_features / 4)):
            break
        chosen = _student(shape, out_features, channels, hidden)
        if not images:
            break
        channels += 1
    if chosen is None:
        raise ValueError(f"the smallest student has {smallest} parameters, more than {parameters}; raise the budget")
    return chosen


def _student(shape: tuple[int, ...], out_features: int, channels: int, hidden: int) -> nn.Module:
    inlet: list[nn.Module] = []
    size = math.prod(shape)
    if len(shape) >= 2 and min(shape[-2:]) >= 8:
        inlet = [nn.Unflatten(1, (1, shape[0]))] if len(shape) == 2 else []
        depth = 1 if len(shape) == 2 else shape[0]
        inlet += [nn.Conv2d(depth, channels, 3, 2, 1), nn.ReLU(), nn.Conv2d(channels, 2 * channels, 3, 2, 1), nn.ReLU()]
        size = 2 * channels * math.prod(-(-side // 4) for side in shape[-2:])
    return nn.Sequential(
        *inlet, nn.Flatten(), nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, out_features)
    )  # fmt: skip


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
