"""Streams of tasks made of one data set: each task is a `Split` of its own."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from neurarium.data._arrays import Arrays, Split
from neurarium.data._errors import DataError


def permuted_stream(split: Split, tasks: int, seed: int = 0, *, identity_first: bool = True) -> list[Split]:
    """Tasks that differ by a fixed random permutation of the input's positions (permuted MNIST).

    Vectors [n, features] have their features permuted; images [n, height, width] or [n, channels, height, width]
    their pixels, all channels of a pixel together. Shapes, dtypes and targets stay as they are. Task ``t`` is the same
    whatever the number of tasks.

    Args:
        split: the data.
        tasks: number of tasks.
        seed: of the generator that draws the permutations.
        identity_first: keep the first task as it is.

    Raises:
        DataError: ``tasks`` is below 1 or the inputs are neither vectors nor images.
    """
    if tasks < 1:
        raise DataError(f"tasks must be at least 1, not {tasks}")
    generator = torch.Generator().manual_seed(seed)
    positions = count_positions(split)
    stream = []
    for task in range(tasks):
        if task == 0 and identity_first:
            order = torch.arange(positions)
        else:
            order = torch.randperm(positions, generator=generator)
        stream.append(renamed(permute_positions(split, order), split, f"permutation {task}"))
    return stream


def permuted_square(split: Split, size: int, seed: int = 0) -> Split:
    """The images with the pixels of their central ``size`` x ``size`` square permuted at random.

    The smaller the square, the more the new task shares with the old one; ``size=0`` changes nothing.

    Args:
        split: images [n, height, width] or [n, channels, height, width].
        size: side of the square in pixels; it starts at row (height - size) // 2, column (width - size) // 2.
        seed: of the generator that draws the permutation.

    Raises:
        DataError: the inputs are not images or the square does not fit into them.
    """
    height, width = image_size(split)
    if not 0 <= size <= min(height, width):
        raise DataError(f"size must be between 0 and {min(height, width)}, not {size}")
    top, left = (height - size) // 2, (width - size) // 2
    order = torch.arange(height * width)
    inside = order.reshape(height, width)[top : top + size, left : left + size].flatten().clone()
    order[inside] = inside[torch.randperm(len(inside), generator=torch.Generator().manual_seed(seed))]
    return renamed(permute_positions(split, order), split, f"central {size} x {size} permuted")


def split_stream(
    split: Split, classes_per_task: int = 2, *, relabel: bool = False, order_seed: int | None = None
) -> list[Split]:
    """Tasks that each hold some of the classes (split MNIST: 0/1, 2/3, ...).

    Args:
        split: data for classification.
        classes_per_task: how many classes each task holds; must divide the number of classes.
        relabel: number the classes of each task from 0 (one head per task, or one shared small head); otherwise
            labels and ``classes`` stay those of the whole set.
        order_seed: of the order in which the classes come; label order by default.

    Raises:
        DataError: the split has no classes, or they cannot be shared out evenly.
    """
    total = len(split.classes)
    if total == 0:
        raise DataError(f"{split.name or 'the split'} has no classes to split by")
    if not 1 <= classes_per_task <= total or total % classes_per_task:
        raise DataError(f"classes_per_task must divide the number of classes, {total}, unlike {classes_per_task}")
    order = torch.arange(total)
    if order_seed is not None:
        order = torch.randperm(total, generator=torch.Generator().manual_seed(order_seed))
    stream = []
    for members in order.split(classes_per_task):
        label = torch.arange(total)
        if relabel:
            label[members] = torch.arange(classes_per_task)

        def choose(part: Arrays, members: Tensor = members, label: Tensor = label) -> Arrays:
            chosen = part[torch.isin(part.y, members.to(part.y.device))]
            return Arrays(chosen.x, label.to(part.y.device)[chosen.y])

        task = dataclasses.replace(
            split,
            train=choose(split.train),
            validation=choose(split.validation),
            test=choose(split.test),
            classes=tuple(split.classes[c] for c in members) if relabel else split.classes,
        )
        stream.append(renamed(task, split, f"classes {', '.join(split.classes[c] for c in members)}"))
    return stream


def rotated_stream(split: Split, angles: Sequence[float]) -> list[Split]:
    """Tasks that differ by a rotation of the images about their centre (rotated MNIST).

    Bilinear; pixels from outside the image are 0; uint8 images stay uint8. A multiple of 90° is exact for square
    images (`torch.rot90`).

    Args:
        split: images [n, height, width] or [n, channels, height, width].
        angles: one per task, in degrees, counter-clockwise.

    Raises:
        DataError: the inputs are not images, or no or no finite angles.
    """
    image_size(split)
    if len(angles) == 0 or not all(math.isfinite(angle) for angle in angles):
        raise DataError(f"angles must be one finite number of degrees per task, not {list(angles)!r}")
    turned = [split.map_inputs(functools.partial(rotate, angle=angle)) for angle in angles]
    return [renamed(task, split, f"rotated {angle:g}°") for task, angle in zip(turned, angles)]


def rotate(x: Tensor, angle: float) -> Tensor:
    """Images turned by ``angle`` degrees counter-clockwise about their centre."""
    if angle % 360 == 0 or len(x) == 0:
        return x
    if angle % 90 == 0 and x.shape[-1] == x.shape[-2]:
        return torch.rot90(x, int(angle // 90), (-2, -1))
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    height, width = x.shape[-2:]
    # affine_grid maps output to input positions in units of half the image's sides.
    turn = torch.tensor([[cos, -sin * height / width, 0], [sin * width / height, cos, 0]], device=x.device)
    turned = []
    for part in x.split(4096):  # bounds the float copy
        images = part.reshape(len(part), -1, height, width).float()
        grid = affine_grid(turn.expand(len(part), 2, 3), list(images.shape), align_corners=False)
        result = grid_sample(images, grid, align_corners=False).reshape(part.shape)
        turned.append(result.round().clamp(0, 255).to(x.dtype) if x.dtype == torch.uint8 else result.to(x.dtype))
    return torch.cat(turned)


def permute_positions(split: Split, order: Tensor) -> Split:
    """The split with position ``i`` of each input taken from position ``order[i]``."""

    def permute(x: Tensor) -> Tensor:
        shape = x.shape
        channels = shape[1:2] if x.dim() == 4 else ()
        flat = x.reshape(shape[0], *channels, order.numel())
        return flat[..., order.to(x.device)].reshape(shape)

    return split.map_inputs(permute)


def count_positions(split: Split) -> int:
    """Features of a vector, pixels of an image."""
    x = split.train.x
    if x.dim() == 2:
        return x.shape[1]
    height, width = image_size(split)
    return height * width


def image_size(split: Split) -> tuple[int, int]:
    """Height and width of the split's images.

    Raises:
        DataError: the inputs have another number of dimensions than images.
    """
    shape = tuple(split.train.x.shape)
    if len(shape) not in (3, 4):
        raise DataError(
            f"{split.name or 'the split'} must hold images [n, height, width] or [n, channels, height, width], "
            f"not inputs of shape {shape}"
        )
    return shape[-2], shape[-1]


def renamed(task: Split, split: Split, what: str) -> Split:
    """``task`` named after the split it comes from."""
    return dataclasses.replace(task, name=f"{split.name} ({what})".strip())
