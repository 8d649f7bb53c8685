"""A large label set that falls into groups: which classes belong to which vertical, and which contain others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from neurarium.data._errors import DataError


class LabelTree:
    """Classes by vertical, in the order of a network's outputs: one vertical after another.

    Args:
        verticals: vertical -> names of its classes.
        parents: class -> the classes of the same vertical that contain it, directly or not: from
            ``{"blackbird": ["perching bird"], "perching bird": ["bird"]}`` follows that a blackbird is a bird.

    Attributes:
        classes: all class names in output order.
        sizes: classes per vertical.
        vertical_of: [classes], the vertical's number of every class.

    Raises:
        DataError: an empty vertical, a class in two, a parent that is unknown or elsewhere, a class within itself.
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
        self.vertical_of = torch.repeat_interleave(torch.arange(len(self.sizes)), torch.tensor(self.sizes))
        parents = parents or {}
        for name, above in parents.items():
            for parent in above:
                if name not in place or place.get(parent) != place[name]:
                    raise DataError(f"parent {parent!r} of {name!r} is not a class of the same vertical")
        lines = [_line(name, parents) for name in self.classes]
        most = max(map(len, lines))
        # the class itself fills up the shorter lines
        self._lines = torch.tensor([[self.index[c] for c in line + line[:1] * (most - len(line))] for line in lines])
        self._lengths = torch.tensor([len(line) for line in lines])

    def __len__(self) -> int:
        return len(self.classes)

    def slices(self) -> list[slice]:
        """The outputs of each vertical."""
        ends = torch.tensor(self.sizes).cumsum(0).tolist()
        return [slice(end - size, end) for end, size in zip(ends, self.sizes)]

    def expand(self, y: Tensor) -> Tensor:
        """Class indices [batch] as multi-hot targets [batch, classes], a class and all that contain it."""
        return torch.zeros(len(y), len(self), device=y.device).scatter_(1, self.lines(y)[0], 1)

    def lines(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The same without an entry per class: a class and all that contain it, and which entries count.

        Returns:
            Class indices [batch, most], and whether they count [batch, most]: shorter lines repeat the class itself.
        """
        lines = self._lines.to(y.device)[self._checked(y)]
        return lines, torch.arange(lines.shape[1], device=y.device) < self._lengths.to(y.device)[y, None]

    def vertical(self, y: Tensor) -> Tensor:
        """The vertical's number of every label, [batch].

        Raises:
            DataError: a label that is no class.
        """
        return self.vertical_of.to(y.device)[self._checked(y)]

    def _checked(self, y: Tensor) -> Tensor:
        if len(y) and not 0 <= int(y.min()) <= int(y.max()) < len(self):
            given = f"{int(y.min())} to {int(y.max())}"
            raise DataError(f"labels must be class indices from 0 to {len(self) - 1}, not {given}")
        return y


def _line(name: str, parents: Mapping[str, Sequence[str]]) -> list[str]:
    """A class and all that contain it, each once."""
    line = [name]
    for member in line:  # grows while it is read
        for parent in parents.get(member, ()):
            if parent == name:
                raise DataError(f"class {name!r} is among the classes that contain it")
            if parent not in line:
                line.append(parent)
    return line
