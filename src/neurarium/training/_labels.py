"""Class labels of any kind: as plain Python values, and in a form that a checkpoint without pickled code can hold."""

from __future__ import annotations

import datetime
import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

Labels = Tensor | np.ndarray | Iterable[Any]
"""Class labels as people have them; see `plain_labels`."""
_DATES = (datetime.datetime, datetime.date, datetime.time)  # a datetime is a date: it comes first


def plain_labels(labels: Labels) -> list[Hashable]:
    """Labels as Python values: those of tensors and NumPy are equal to them, and have another type.

    Args:
        labels: a tensor, an array, or any iterable of labels; a series of pandas is one.

    Raises:
        ValueError: a label is NaN, which no other is equal to; the message names its place.
    """
    if isinstance(labels, (Tensor, np.ndarray)):
        found: list[Any] = labels.flatten().tolist()
    else:
        found = [label.item() if isinstance(label, (Tensor, np.generic)) else label for label in labels]
    for place, label in enumerate(found):
        if isinstance(label, float) and math.isnan(label):
            raise ValueError(f"label {place} is NaN: leave examples without a label out")
    return found


def stored_labels(labels: Sequence[Hashable]) -> list[Any]:
    """Labels as ``torch.save`` writes and ``torch.load(weights_only=True)`` reads them; dates become marked text.

    Raises:
        ValueError: a label of a kind that could only be pickled.
    """
    return [_stored(label) for label in labels]


def loaded_labels(stored: Sequence[Any]) -> list[Hashable]:
    """What `stored_labels` was given."""
    return [_loaded(value) for value in stored]


def _stored(label: Any) -> Any:
    if label is None or isinstance(label, (bool, int, float, str, bytes)):
        return label
    if isinstance(label, tuple):
        return tuple(_stored(part) for part in label)
    for kind in _DATES:
        if isinstance(label, kind):
            return {kind.__name__: label.isoformat()}  # no label is a dictionary: they are not hashable
    raise ValueError(
        f"label {label!r} cannot be saved: labels must be text, numbers, dates or tuples of them, "
        f"not {type(label).__name__}"
    )


def _loaded(value: Any) -> Hashable:
    if isinstance(value, tuple):
        return tuple(_loaded(part) for part in value)
    if isinstance(value, dict):
        ((name, text),) = value.items()
        return next(kind for kind in _DATES if kind.__name__ == name).fromisoformat(text)
    return value
