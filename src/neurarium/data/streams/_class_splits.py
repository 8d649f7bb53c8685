"""Classes to learn from and classes to be new: disjoint parts, and more classes by rotation."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from neurarium.data._arrays import Arrays


def split_classes(data: Arrays, *sizes: int, generator: torch.Generator | None = None) -> list[Arrays]:
    """Disjoint parts of the data by class, so many classes in each, drawn at random; labels stay as they are.

    Args:
        data: examples with class labels.
        sizes: classes of each part; what is left over is dropped.
        generator: of the draw.

    Raises:
        ValueError: no size, or more classes than there are.
    """
    classes = data.y.unique()
    if not sizes or min(sizes) < 1 or sum(sizes) > len(classes):
        raise ValueError(
            f"sizes must be positive and add up to at most {len(classes)}, the number of classes, not {sizes}"
        )
    drawn = classes[torch.randperm(len(classes), generator=generator).to(classes.device)][: sum(sizes)]
    return [data[torch.isin(data.y, part)] for part in drawn.split(list(sizes))]


def rotated_classes(data: Arrays, turns: Sequence[int] = (0, 1, 2, 3)) -> Arrays:
    """Every class as several: label y turned by j quarters becomes label len(turns) * y + j.

    A class that looks the same turned (a zero) gives labels that cannot be told apart; leave those out.

    Args:
        data: images [examples, ..., side, side].
        turns: quarter turns, counter-clockwise.

    Raises:
        ValueError: images that are not square, for an odd turn.
    """
    if data.x.dim() < 3 or (data.x.shape[-1] != data.x.shape[-2] and any(turn % 2 for turn in turns)):
        raise ValueError(f"rotated_classes needs square images, not {list(data.x.shape[1:])}")
    x = torch.cat([torch.rot90(data.x, turn, (-2, -1)) for turn in turns])
    return Arrays(x, torch.cat([data.y * len(turns) + j for j in range(len(turns))]))
