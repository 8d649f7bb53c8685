"""Betti numbers of a set of pixels or voxels."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from neurarium.probes._result import ProbeResult


@dataclass(frozen=True)
class Betti(ProbeResult):
    """Connected parts, loops and cavities.

    Args:
        numbers: b0, b1, ... of a set of as many dimensions.
    """

    numbers: tuple[int, ...]

    @property
    def b0(self) -> int:
        """Connected parts."""
        return self.numbers[0]

    @property
    def b1(self) -> int:
        """Loops; the holes of a set in the plane."""
        return self.numbers[1] if len(self.numbers) > 1 else 0

    @property
    def b2(self) -> int:
        """Cavities."""
        return self.numbers[2] if len(self.numbers) > 2 else 0

    def error(self, true: Betti) -> tuple[float, ...]:
        """``|found - true| / true`` for each number (Guss and Salakhutdinov, section 4); over 1 where none is true."""
        return tuple(abs(a - b) / max(b, 1) for a, b in zip(self.numbers, true.numbers, strict=True))

    def summary(self) -> str:
        """The numbers in words."""
        words = zip(self.numbers, ("connected parts", "loops", "cavities"))
        return ", ".join(f"{number} {word}" for number, word in words)

    def plot(self, ax: Any) -> Any:
        """A bar for each number."""
        ax.bar([f"b{k}" for k in range(len(self.numbers))], self.numbers)
        ax.set_ylabel("count")
        return ax


def betti_numbers(mask: Bool[Tensor, "*axes"] | np.ndarray) -> Betti:
    """Betti numbers of the union of closed pixels (or voxels) where a mask is true; what is outside the mask is not.

    Pixels that share a corner are connected, so the background is connected through edges alone: only with this pair
    the count is that of the cubical complex, and b0 - b1 its Euler characteristic. In three dimensions b1 follows from
    that characteristic.

    Args:
        mask: of one, two or three dimensions.

    Raises:
        ValueError: another number of dimensions, or not boolean.
    """
    array = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
    if array.dtype != bool or not 1 <= array.ndim <= 3:
        raise ValueError(f"mask must be boolean and of 1 to 3 dimensions, not {array.dtype} of {array.ndim}")
    parts, enclosed = foreground(array)[1], background(array)[1]
    if array.ndim == 1:
        return Betti((parts,))
    if array.ndim == 2:
        return Betti((parts, enclosed))
    return Betti((parts, parts + enclosed - euler_characteristic(array), enclosed))


def foreground(array: np.ndarray) -> tuple[np.ndarray, int]:
    """Parts of a mask that touch at a corner at least: a label for each entry, 0 for none, and their number."""
    from scipy import ndimage

    labels, count = ndimage.label(array, np.ones([3] * array.ndim))
    return labels, int(count)


def background(array: np.ndarray) -> tuple[np.ndarray, int]:
    """Parts of the complement that touch at a face and are enclosed: a label for each entry, 0 for none, their number.

    The label of what is connected to the border is 0 too.
    """
    from scipy import ndimage

    labels, count = ndimage.label(np.pad(~array, 1, constant_values=True))
    outer = labels.flat[0]
    inner = labels[(slice(1, -1),) * array.ndim]
    return np.where(inner == outer, 0, np.where(inner > outer, inner - 1, inner)), int(count) - 1


def euler_characteristic(array: np.ndarray) -> int:
    """Vertices - edges + faces - ... of the union of closed cells: each face is there if a cell that holds it is."""
    padded = np.pad(array, 1)
    total = 0
    for across in itertools.product((False, True), repeat=array.ndim):  # the axes along which a face has no extent
        cells = padded
        for axis, flat in enumerate(across):
            ahead = [slice(None)] * array.ndim
            behind = list(ahead)
            ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
            cells = cells[tuple(ahead)] | cells[tuple(behind)] if flat else cells[tuple(ahead)]
        total += (-1) ** (array.ndim - sum(across)) * int(np.count_nonzero(cells))
    return total


def without_small(array: np.ndarray, least: int) -> tuple[np.ndarray, int]:
    """A mask without parts and holes of fewer than ``least`` entries, and how many went."""
    cleaned, gone = array, 0
    for kind, fill in ((foreground, False), (background, True)):
        labels, count = kind(cleaned)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        small = np.flatnonzero(sizes < least)
        small = small[small > 0]
        gone += len(small)
        cleaned = np.where(np.isin(labels, small), fill, cleaned)
    return cleaned, gone
