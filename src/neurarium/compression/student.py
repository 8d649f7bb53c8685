"""A small network for any input shape, of about so many parameters."""

from __future__ import annotations

from torch import nn


def small_student(shape: tuple[int, ...], out_features: int, parameters: int) -> nn.Module:
    """Two strided convolutions and two linear layers for images, two linear layers for vectors, as wide as allowed.

    Args:
        shape: of one input: [features], [height, width] or [channels, height, width].
        out_features: size of the output.
        parameters: most parameters of the student.

    Raises:
        ValueError: not even the narrowest student (one unit or channel) fits.
    """
    make = _convolutional if len(shape) >= 2 and min(shape[-2:]) >= 8 else _dense
    width, best = 1, make(shape, out_features, 1)
    if _count(best) > parameters:
        raise ValueError(
            f"the smallest student has {_count(best)} parameters, more than {parameters}; raise the budget"
        )
    while _count(following := make(shape, out_features, width + 1)) <= parameters:
        width, best = width + 1, following
    return best


def _dense(shape: tuple[int, ...], out_features: int, width: int) -> nn.Module:
    inputs = 1
    for size in shape:
        inputs *= size
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, out_features))


def _convolutional(shape: tuple[int, ...], out_features: int, width: int) -> nn.Module:
    height, across = shape[-2:]
    first: list[nn.Module] = [nn.Unflatten(1, (1, height))] if len(shape) == 2 else []
    channels = 1 if len(shape) == 2 else shape[0]
    half = [-(-size // 2) for size in (height, across)]
    quarter = [-(-size // 2) for size in half]
    hidden = max(2, 2 * width)
    return nn.Sequential(
        *first, nn.Conv2d(channels, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(2 * width * quarter[0] * quarter[1], hidden), nn.ReLU(),
        nn.Linear(hidden, out_features),
    )  # fmt: skip


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
