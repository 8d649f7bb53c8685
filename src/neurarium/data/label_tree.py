"""A large label set that falls into groups: which classes belong to which vertical, and which contain others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from neurarium.data.errors import DataError


class LabelTree:
    """Classes by vertical, in the order of a network's outputs: one vertical after another.

    Args:
        verticals: vertical -> names of its classes.
        parents: class -> the classes of the same vertical that contain it ("blackbird" -> ["perching bird", "bird"]).

    Attributes:
        classes: all class names in output order.
        sizes: classes per vertical.
        vertical_of: [classes], the vertical's number of every class.

    Raises:
        DataError: an empty vertical, a class in two, a parent that is unknown or elsewhere.
    """

    def __init__(
        self, verticals: Mapping[str, Sequence[str]], parents: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        if not verticals:
            raise DataError("verticals is empty: give at least one group of classes")
        self.names = tuple(verticals)
        self.sizes = tuple(len(members) for members in verticals.values())
        self.classes: list[str] = []
        place: dict[str, str] = {}
        for vertical, members in verticals.items():
            if not members:
                raise DataError(f"vertical {vertical!r} has no classes")
            for name in members:
                if name in place:
                    raise DataError(f"class {name!r} is in two verticals, {place[name]!r} and {vertical!r}")
                place[name] = vertical
                self.classes.append(name)
        self.index = {name: i for i, name in enumerate(self.classes)}
        self.vertical_of = torch.tensor([self.names.index(place[name]) for name in self.classes])
        self._expand = torch.eye(len(self.classes))
        for name, above in (parents or {}).items():
            for parent in above:
                if name not in place or place.get(parent) != place[name]:
                    raise DataError(f"parent {parent!r} of {name!r} is not a class of the same vertical")
                self._expand[self.index[name], self.index[parent]] = 1

    def __len__(self) -> int:
        return len(self.classes)

    def slices(self) -> list[slice]:
        """The outputs of each vertical."""
        ends = torch.tensor(self.sizes).cumsum(0).tolist()
        return [slice(end - size, end) for end, size in zip(ends, self.sizes)]

    def expand(self, y: Tensor) -> Tensor:
        """Class indices [batch] as multi-hot targets [batch, classes], a class and all that contain it."""
        return self._expand.to(y.device)[y]

    def vertical(self, y: Tensor) -> Tensor:
        """The vertical's number of every label, [batch]."""
        return self.vertical_of.to(y.device)[y]
