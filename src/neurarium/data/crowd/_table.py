"""Long tables (item, annotator, label) as people have them, and matrices of labels, as `CrowdLabels`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from neurarium.data._errors import DataError, nearest
from neurarium.data.graphs._structures import CrowdLabels
from neurarium.data.tables._read import read_table


def crowd_table(
    table: Any,
    *,
    item: str = "item",
    annotator: str = "annotator",
    label: str = "label",
    items: Sequence[Any] | None = None,
    classes: Sequence[Any] | None = None,
    repeated: str = "refuse",
) -> CrowdLabels:
    """Labels from a table with one row per label that somebody gave.

    Args:
        table: a pandas data frame, or the path of a table in any form that `load` reads.
        item: column that says what was labelled.
        annotator: column that says by whom.
        label: column that says what it was called; rows without a label are left out.
        items: all items in the order of your inputs; by default those of the table in the order of appearance.
        classes: all classes in the order of the classifier's outputs; by default those of the table, sorted.
        repeated: where one annotator labelled one item more than once: ``"refuse"``, ``"last"`` or ``"keep"`` all.

    Raises:
        DataError: no such column, an item or label that is not listed, a gap, or a label given twice.
    """
    if repeated not in ("refuse", "last", "keep"):
        raise DataError(f"repeated must be 'refuse', 'last' or 'keep', not {repeated!r}")
    name = ""
    if isinstance(table, str | os.PathLike):
        read = read_table(Path(table))
        table, name = read.frame, read.name
    for column in (item, annotator, label):
        if column not in table.columns:
            raise DataError(f"the table has no column {column!r}; {nearest(column, map(str, table.columns))}")
    rows = table[[item, annotator, label]].dropna(subset=[label])
    for column in (item, annotator):
        if rows[column].isna().any():
            raise DataError(f"column {column!r} has a gap where column {label!r} has a label")
    if not len(rows):
        raise DataError("the table has no labels")
    item_codes, item_names = coded(rows[item], items, "items")
    who, worker_names = pd.factorize(rows[annotator])
    label_codes, class_names = coded(
        rows[label], sorted(rows[label].unique()) if classes is None else classes, "classes"
    )
    pairs = item_codes.astype(np.int64) * len(worker_names) + who
    if repeated != "keep":
        twice = pd.Series(pairs).duplicated(keep="last").to_numpy()
        if repeated == "refuse" and twice.any():
            row = int(twice.argmax())
            who_twice, item_twice = shown(worker_names[who[row]]), shown(item_names[item_codes[row]])
            raise DataError(
                f"{annotator} {who_twice} labelled {item} {item_twice} more than once; "
                "repeated='last' keeps the last label, repeated='keep' all"
            )
        who, item_codes, label_codes = who[~twice], item_codes[~twice], label_codes[~twice]
    return CrowdLabels(
        torch.from_numpy(who.astype(np.int64)), torch.from_numpy(item_codes.astype(np.int64)),
        torch.from_numpy(label_codes.astype(np.int64)), torch.full((len(item_names),), -1),
        tuple(map(str, class_names)), tuple(map(str, worker_names)), tuple(map(str, item_names)), name,
    )  # fmt: skip


def shown(value: Any) -> str:
    """A cell as the file has it: 0, not np.int64(0)."""
    return repr(value.item() if isinstance(value, np.generic) else value)


def coded(column: Any, listed: Sequence[Any] | None, argument: str) -> tuple[np.ndarray[Any, Any], Sequence[Any]]:
    """Positions of a column's values in a list, or in the order of appearance."""
    if listed is None:
        codes, names = pd.factorize(column)
        return codes, list(names)
    index = pd.Index(list(listed))
    if index.has_duplicates:
        raise DataError(f"{argument} lists {shown(index[index.duplicated()][0])} twice")
    codes = index.get_indexer(pd.Index(column))
    if (codes < 0).any():
        missing = column.iloc[int((codes < 0).argmax())]
        raise DataError(f"{argument} does not list {shown(missing)}, which the table has")
    return codes, list(listed)


def crowd_matrix(annotations: Tensor, num_classes: int | None = None) -> CrowdLabels:
    """Labels from a matrix [items, annotators] of whole numbers, -1 where there is none.

    Args:
        annotations: the matrix.
        num_classes: C; by default one more than the largest label.

    Raises:
        DataError: no matrix of labels from -1 to C - 1.

    Warns:
        UserWarning: annotators who labelled nothing, of whom nothing can be learned.
    """
    if annotations.dim() != 2 or annotations.is_floating_point():
        raise DataError(f"annotations must be whole numbers [items, annotators], not {list(annotations.shape)}")
    classes = (int(annotations.max()) + 1 if annotations.numel() else 0) if num_classes is None else num_classes
    if not annotations.numel() or int(annotations.min()) < -1 or int(annotations.max()) >= classes:
        raise DataError(f"annotations must be labels from 0 to {classes - 1}, or -1")
    idle = (annotations < 0).all(0).nonzero().flatten().tolist()
    if idle:
        shown = ", ".join(map(str, idle[:10])) + (" ..." if len(idle) > 10 else "")
        warnings.warn(f"annotators {shown} labelled nothing; nothing can be learned of them", stacklevel=2)
    items, workers = (annotations >= 0).nonzero(as_tuple=True)
    labels, unknown = annotations[items, workers].long(), torch.full((len(annotations),), -1)
    class_names, worker_names, item_names = (
        tuple(map(str, range(n))) for n in (classes, annotations.shape[1], annotations.shape[0])
    )
    return CrowdLabels(workers, items, labels, unknown, class_names, worker_names, item_names)
