"""Transformations of a batch of tensors into numbered views, the first of which is the batch itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor

Transform = Callable[[Tensor], Tensor]


class InputTransforms:
    """Numbered views of a batch: view 0 is the batch, view j the j-th function of it.

    Args:
        transforms: functions from a batch to one of the same shape (time reversal, a change of sign ...); the identity
            is put before them.
    """

    def __init__(self, transforms: Sequence[Transform] = ()) -> None:
        self.transforms: tuple[Transform, ...] = (_identity, *transforms)

    @property
    def num(self) -> int:
        """M, views of an example."""
        return len(self.transforms)

    def __call__(self, x: Shaped[Tensor, batch * shape]) -> Shaped[Tensor, "batch views *shape"]:
        """All views of each example, one after another.

        Raises:
            ValueError: a view has another shape than the batch.
        """
        views = [transform(x) for transform in self.transforms]
        wrong = next((j for j, view in enumerate(views) if view.shape != x.shape), None)
        if wrong is not None:
            raise ValueError(f"view {wrong} has the shape {list(views[wrong].shape)}, the batch {list(x.shape)}")
        return torch.stack(views, 1)


class Rotations(InputTransforms):
    """Quarter turns of images [batch, ..., height, width], counter-clockwise.

    Args:
        turns: 4 for 0, 90, 180 and 270 degrees; 2 for 0 and 180, which images that are not square can have too.

    Raises:
        ValueError: another number of turns.
    """

    def __init__(self, turns: int = 4) -> None:
        if turns not in (2, 4):
            raise ValueError(f"turns must be 2 or 4, not {turns}")
        super().__init__([_turned(k) for k in ((2,) if turns == 2 else (1, 2, 3))])


class ColorPermutations(InputTransforms):
    """Orders of the colours of images [batch, 3, height, width].

    Args:
        number: 6 for all orders; 3 for the cyclic ones.

    Raises:
        ValueError: another number of orders.
    """

    def __init__(self, number: int = 6) -> None:
        if number not in (3, 6):
            raise ValueError(f"number must be 3 or 6, not {number}")
        orders = [(0, 1, 2), (1, 2, 0), (2, 0, 1)] if number == 3 else list(itertools.permutations(range(3)))
        super().__init__([_recoloured(order) for order in orders[1:]])


class Compose(InputTransforms):
    """Every view of the first, seen through every view of the second; the second's number runs faster.

    Args:
        first: M_1 views.
        second: M_2 views of each.
    """

    def __init__(self, first: InputTransforms, second: InputTransforms) -> None:
        pairs = list(itertools.product(first.transforms, second.transforms))
        super().__init__([_chained(a, b) for a, b in pairs[1:]])


def _identity(x: Tensor) -> Tensor:
    return x


def _chained(first: Transform, second: Transform) -> Transform:
    return lambda x: second(first(x))


def _turned(quarters: int) -> Transform:
    def turn(x: Tensor) -> Tensor:
        if x.dim() < 3 or (quarters % 2 and x.shape[-1] != x.shape[-2]):
            what = "square images" if quarters % 2 else "images"
            raise ValueError(f"rotations need {what}, not examples of shape {list(x.shape[1:])}; 0 and 180: turns=2")
        return torch.rot90(x, quarters, (-2, -1))

    return turn


def _recoloured(order: tuple[int, ...]) -> Transform:
    def recolour(x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != 3:
            raise ValueError(f"orders of colours need images [3, height, width], not {list(x.shape[1:])}")
        return x[:, list(order)]

    return recolour
