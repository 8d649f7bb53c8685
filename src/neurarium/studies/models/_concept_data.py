"""The three tasks of the concept-subspace study: a tree of classes, a protected attribute, both at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from neurarium.data import Arrays, load

Labels = dict[str, Tensor]


class Sizes(Protocol):
    """What the tasks need of a study's settings."""

    @property
    def data(self) -> str: ...
    @property
    def train(self) -> int: ...
    @property
    def test(self) -> int: ...
    @property
    def noise(self) -> float: ...


@dataclass(frozen=True)
class Task:
    """Inputs ``[examples, features]`` and the labels of every concept, to train and to test on."""

    x: Tensor
    labels: Labels
    test_x: Tensor
    test_labels: Labels

    def to(self, device: str) -> Task:
        """The same task on a device."""
        here, there = ({name: y.to(device) for name, y in part.items()} for part in (self.labels, self.test_labels))
        return Task(self.x.to(device), here, self.test_x.to(device), there)


def digits(sizes: Sizes, seed: int) -> tuple[Arrays, Arrays]:
    """Flat images in 0..1, drawn for this seed."""
    split = load(sizes.data).flat().map_inputs(lambda x: x.float() / 255)
    return split.train.subset(sizes.train, seed=seed), split.test.subset(min(sizes.test, len(split.test)), seed=seed)


def tree(sizes: Sizes, seed: int) -> Task:
    """Digit and parity."""
    train, test = digits(sizes, seed)
    return Task(
        train.x, {"digit": train.y, "parity": train.y % 2}, test.x, {"digit": test.y, "parity": test.y % 2}
    )  # fmt: skip


def fair(sizes: Sizes, seed: int) -> Task:
    """Label "7 or 9" under noise, and a group that shows as a bright stripe, with about the rates of Adult's sexes."""
    if sizes.data == "adult":
        return adult(sizes, seed)
    generator = torch.Generator().manual_seed(seed)

    def biased(part: Arrays) -> tuple[Tensor, Labels]:
        label = ((part.y == 7) | (part.y == 9)).long()
        share = torch.where(label == 1, 0.85, 0.61)  # of group 1, among those with and without the label
        group = (torch.rand(label.shape, generator=generator) < share).long()
        x = part.x.clone()
        x[:, : 2 * 28] += group.unsqueeze(1).float()
        return x + sizes.noise * torch.randn(x.shape, generator=generator), {"label": label, "attribute": group}

    train, test = digits(sizes, seed)
    return Task(*biased(train), *biased(test))


def adult(sizes: Sizes, seed: int) -> Task:
    """Income above 50,000 dollars, and sex: the one pair of neighbouring columns of which exactly one is 1."""
    split = load("adult")
    raw = split.train.x.float()
    pair = int(((raw[:, 1:] + raw[:, :-1] == 1).all(0) & (raw[:, 1:] <= 1).all(0)).nonzero()[0])
    group_train, group_test = (part.x[:, pair + 1].long() for part in (split.train, split.test))
    scaled = split.scaled()
    keep = torch.randperm(len(raw), generator=torch.Generator().manual_seed(seed))[: sizes.train]
    return Task(
        scaled.train.x[keep], {"label": split.train.y[keep], "attribute": group_train[keep]},
        scaled.test.x, {"label": split.test.y, "attribute": group_test},
    )  # fmt: skip


def both(sizes: Sizes, seed: int) -> Task:
    """Digit, parity and colour (which of two channels holds the image): by parity for 80 % in training, then random."""
    generator = torch.Generator().manual_seed(seed)

    def coloured(part: Arrays, agreement: float) -> tuple[Tensor, Labels]:
        parity = part.y % 2
        agrees = torch.rand(parity.shape, generator=generator) < agreement
        colour = torch.where(agrees, parity, 1 - parity)
        channels = torch.stack([part.x * (colour == c).unsqueeze(1) for c in (0, 1)], 1)
        return channels.flatten(1), {"digit": part.y, "parity": parity, "colour": colour}

    train, test = digits(sizes, seed)
    return Task(*coloured(train, 0.8), *coloured(test, 0.5))


TASKS = {"tree": tree, "fair": fair, "both": both}
