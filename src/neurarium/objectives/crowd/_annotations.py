"""Labels of several annotators in the two forms in which they come, as one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Annotations = Tensor | tuple[Tensor, Tensor, Tensor]
"""Labels [batch, annotators] with -1 where there is none; or, one entry per label that was given, the rows of the
batch, the annotators and the labels."""


def pairs_of(annotations: Any, batch: int, num_annotators: int, num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, annotators and labels, one entry per label that was given.

    Args:
        annotations: in either form.
        batch: examples.
        num_annotators: A.
        num_classes: C.

    Raises:
        ValueError: a shape, an index or a label that does not fit.
    """
    if isinstance(annotations, Tensor):
        if annotations.shape != (batch, num_annotators):
            raise ValueError(f"annotations must be [{batch}, {num_annotators}], not {list(annotations.shape)}")
        rows, annotators = (annotations >= 0).nonzero(as_tuple=True)
        labels = annotations[rows, annotators].long()
    else:
        rows, annotators, labels = (part.long() for part in annotations)
        if not rows.shape == annotators.shape == labels.shape:
            raise ValueError("annotations must be rows, annotators and labels of one length")
    for name, part, end in (
        ("rows", rows, batch),
        ("annotators", annotators, num_annotators),
        ("labels", labels, num_classes),
    ):
        if len(part):
            low, high = (int(v) for v in torch.stack([part.min(), part.max()]).tolist())
            if low < 0 or high >= end:
                raise ValueError(f"{name} of annotations must be from 0 to {end - 1}, not {low} to {high}")
    return rows, annotators, labels
