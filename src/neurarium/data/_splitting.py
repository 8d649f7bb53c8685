"""Seeded splits: by class where the target is a class, so that every part sees every class."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from neurarium.data._arrays import Arrays, Split
from neurarium.data._errors import DataError

FRACTIONS = (0.7, 0.15, 0.15)


def check_fractions(fractions: Sequence[float]) -> tuple[float, float, float]:
    """Fractions of train, validation and test that add up to 1.

    Raises:
        DataError: not three, not between 0 and 1, not adding up to 1, or nothing for training or test.
    """
    parts = tuple(fractions)
    if len(parts) != 3 or not all(isinstance(part, int | float) and math.isfinite(part) for part in parts):
        raise DataError(f"split must be three fractions (train, validation, test), not {fractions!r}")
    if min(parts) < 0 or abs(sum(parts) - 1) > 1e-6:
        raise DataError(f"the fractions of split must be at least 0 and add up to 1, unlike {parts}")
    if parts[0] == 0 or parts[2] == 0:
        raise DataError(f"split must leave something for training and for test, unlike {parts}")
    return parts


def split_sizes(total: int, fractions: tuple[float, float, float]) -> tuple[int, int, int] | None:
    """How many of ``total`` examples go to each part, at least one where its fraction is above 0; None if too few."""
    wanted = [int(fraction > 0) for fraction in fractions]
    if total < sum(wanted):
        return None
    test = max(wanted[2], round(total * fractions[2]))
    validation = max(wanted[1], round(total * fractions[1]))
    while total - test - validation < 1:  # a few examples: training comes first
        if validation >= test:
            validation -= 1
        else:
            test -= 1
    return total - test - validation, validation, test


def split_rows(
    y: Tensor, fractions: tuple[float, float, float], seed: int, classes: Sequence[str], name: str
) -> list[Tensor]:
    """Row indices of train, validation and test, in random order.

    Args:
        y: targets of all rows; with ``classes`` each class is split by itself.
        fractions: of train, validation and test, as `check_fractions` returns them.
        seed: of the generator that draws the order.
        classes: class names in label order; empty for regression.
        name: of the data, for messages.

    Raises:
        DataError: too few rows, or a class with too few rows, to split.
    """
    generator = torch.Generator().manual_seed(seed)
    groups = [(y == label).nonzero().flatten() for label in range(len(classes))] or [torch.arange(len(y))]
    parts: list[list[Tensor]] = [[], [], []]
    for label, rows in enumerate(groups):
        sizes = split_sizes(len(rows), fractions)
        if sizes is None:
            needed = sum(fraction > 0 for fraction in fractions)
            what, help_ = name, ""
            if classes:
                called = classes[label] if len(classes[label]) <= 40 else classes[label][:40] + "..."
                what, help_ = f"class {called!r} of {name}", "; merge it with another or leave it out"
            raise DataError(f"{what} has {len(rows)} row(s), too few for a split that needs at least {needed}{help_}")
        shuffled = rows[torch.randperm(len(rows), generator=generator)]
        for part, chosen in zip(parts, shuffled.split(sizes)):
            part.append(chosen)
    joined = [torch.cat(part) for part in parts]
    return [part[torch.randperm(len(part), generator=generator)] for part in joined]


def split_arrays(
    data: Arrays, *, fractions: Sequence[float] = FRACTIONS, seed: int = 0, classes: Sequence[str] = (), name: str = ""
) -> Split:
    """Examples split at random into train, validation and test, stratified where there are ``classes``."""
    rows = split_rows(data.y, check_fractions(fractions), seed, classes, name)
    train, validation, test = (data[part] for part in rows)
    return Split(train, validation, test, tuple(classes), name)
