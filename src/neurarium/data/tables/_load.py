"""A table, or two, as a `Split`: what is left out, what the target is, which rows are for training."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from neurarium.data._arrays import Arrays, Split
from neurarium.data._errors import DataError, nearest
from neurarium.data._splitting import FRACTIONS, split_rows
from neurarium.data.tables._encode import TableEncoder, parse
from neurarium.data.tables._kinds import Date, Kind, Number, infer, trimmed
from neurarium.data.tables._read import UNNAMED, Table, also, read_table

FEWEST_ROWS = 10
"""Of fewer rows nobody can say that a column with as many values identifies them."""

_NAMED_AS_IDENTIFIER = re.compile(
    r"(?i:(^|[^a-z])(ids?|uuid|guid|index|idx|row ?(nr|no|number|id)?|key)$)|[a-z](Id|ID)$"
)


@dataclass(frozen=True)
class Request:
    """What a caller asks of a table; the arguments of `load`."""

    target: str | None
    drop: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    missing: str = "impute"


@dataclass(frozen=True)
class Target:
    """What is predicted: classes by their values, or a quantity where there are none."""

    name: str
    kind: Kind
    values: tuple[object, ...]
    note: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(map(str, self.values))

    def encode(self, column: pd.Series, where: str) -> Tensor:
        """Class indices int64, or float32 quantities.

        Raises:
            DataError: a class that training has not, or a number too large for float32.
        """
        values = comparable(column, self.kind, self.name, where)
        if not self.values:
            numbers = values.to_numpy(np.float64)
            if (np.abs(numbers) > np.finfo(np.float32).max).any():
                row = int(np.abs(numbers).argmax())
                raise DataError(
                    f"{where}: the target {self.name!r} is too large for float32 in row {row + 1}: {numbers[row]}"
                )
            return torch.from_numpy(np.array(numbers, np.float32))
        labels = values.map({value: label for label, value in enumerate(self.values)})
        if labels.isna().any():
            row = int(labels.isna().to_numpy().argmax())
            raise DataError(
                f"{where}: the target {self.name!r} is {values.iloc[row]!r} in row {row + 1}, "
                "a class without training rows"
            )
        return torch.from_numpy(np.array(labels, np.int64))


def load_table(
    path: Path, request: Request, test_path: Path | None, fractions: tuple[float, float, float] | None, seed: int
) -> Split:
    """A table split at random, by class where the target is a class, or a training and a test table.

    Raises:
        DataError: what `load` says.
    """
    table = with_target(read_table(path), request)
    target = find_target(table, request)
    left_out = unused(table, request)
    kinds = {
        str(name): infer(table.frame[name], table.continental, str(name), table.name, str(name) in request.keep)
        for name in table.frame.columns
        if name != request.target and name not in left_out
    }
    encoder = TableEncoder(kinds, table.name, {**table.notes, **left_out})
    y = target.encode(table.frame[target.name], table.name)
    if test_path is not None:
        test = with_target(read_table(test_path), request)
        check_same_columns(test, table, left_out)
        tables, targets = [table, test], [y, target.encode(test.frame[target.name], test.name)]
        rows = [torch.arange(len(table)), torch.arange(0), torch.arange(len(test))]
    else:
        rows = split_rows(y, fractions or FRACTIONS, seed, target.classes, table.name)
        tables, targets = [table, table], [y, y]
    parsed = [encoder.parse(table.frame, table.name)]
    parsed.append(parsed[0] if test_path is None else encoder.parse(tables[1].frame, tables[1].name))
    if request.missing == "refuse":
        for one, columns in zip(tables, parsed):
            refuse_gaps(columns, one.name)
    train = Arrays(encoder.fit(parsed[0].iloc[rows[0].numpy()]), y[rows[0]])
    validation, test_part = (
        Arrays(encoder.encode(columns.iloc[index.numpy()]) if len(index) else train.x[:0], labels[index])
        for columns, labels, index in ((parsed[0], y, rows[1]), (parsed[1], targets[1], rows[2]))
    )
    found = {**encoder.notes, target.name: target.note}
    notes = {name: found[name] for name in (table.name, *map(str, table.frame.columns)) if name in found}
    return Split(train, validation, test_part, target.classes, table.name, notes, encoder)


def with_target(table: Table, request: Request) -> Table:
    """The table with those rows only that have a target.

    Raises:
        DataError: ``target``, ``drop`` or ``keep`` name no column, or a target is missing and ``missing`` is "refuse".
    """
    names = [str(name) for name in table.frame.columns]
    target = request.target
    if target is None:
        raise DataError(f"name the column of {table.name} to predict with target=...; {nearest('', names)}")
    if target not in names:
        raise DataError(f"{table.name} has no column {target!r}; {nearest(target, names)}")
    if len(names) == 1:
        raise DataError(f"{table.name} has no column but the target {target!r}")
    for argument, chosen in (("drop", request.drop), ("keep", request.keep)):
        for name in chosen:
            if name not in names:
                raise DataError(f"{argument}: {table.name} has no column {name!r}; {nearest(name, names)}")
            if name == target:
                raise DataError(f"{argument} names the target {target!r}; leave it out of {argument}")
    column = table.frame[target]
    gaps = (column if column.dtype.kind in "biufM" else trimmed(column)).isna()
    if not gaps.any():
        return table
    row = int(gaps.to_numpy().argmax()) + 1
    if gaps.all():
        raise DataError(f"{table.name}: the target column {target!r} has no values")
    if request.missing == "refuse":
        raise DataError(f"{table.name}: column {target!r} has no value in row {row}; fill it in or leave the row out")
    said = f"{int(gaps.sum()):,} row(s) without a target left out, the first is row {row}"
    notes = {**table.notes, table.name: also(table.notes.get(table.name), said)}
    return Table(table.frame[~gaps].reset_index(drop=True), table.name, table.index, table.continental, notes)


def find_target(table: Table, request: Request) -> Target:
    """Whether the target is a class or a quantity: text, truth values and whole numbers are classes.

    Whole numbers are a quantity where they are many (more than 20 different ones, of fewer than ten rows each); numbers
    with a decimal point are classes only where gaps have turned whole numbers into such.

    Raises:
        DataError: all rows have the same target, or it is a date.
    """
    name, column = str(request.target), table.frame[request.target]
    kind = infer(column, table.continental, name, table.name)
    if isinstance(kind, Date):
        raise DataError(f"{table.name}: the target {name!r} is a date; make it a number or a class")
    values = comparable(column, kind, name, table.name)
    distinct = sorted(set(values.tolist()))
    if len(distinct) == 1:
        raise DataError(
            f"{table.name}: the target column {name!r} is {distinct[0]!r} in every row; nothing can be learnt"
        )
    if not isinstance(kind, Number) or column.dtype.kind == "b":
        return Target(name, kind, tuple(distinct), f"the target, of {len(distinct)} classes")
    whole = all(float(value).is_integer() for value in distinct)
    few = len(distinct) <= 20 or len(distinct) * 10 <= len(column)
    had_gaps = "without a target" in table.notes.get(table.name, "")
    digits = column.dtype.kind not in "fiu" and bool(trimmed(column).dropna().str.fullmatch(r"-?\d+|\D*").all())
    if whole and few and (column.dtype.kind in "iu" or had_gaps or digits):
        classes = tuple(int(value) for value in distinct)
        return Target(name, kind, classes, f"the target, of {len(classes)} classes")
    note = f"the target, a quantity ({kind})" if str(kind) != "numbers" else "the target, a quantity"
    if whole and column.dtype.kind in "iu":
        note += f": {len(distinct):,} different whole numbers are too many for classes"
    return Target(name, kind, (), note)


def comparable(column: pd.Series, kind: Kind, name: str, where: str) -> pd.Series:
    """A target's values: numbers, truth values as ``True`` and ``False``, or trimmed text."""
    if column.dtype.kind == "b":
        return column.astype(object)
    return parse(column, kind, name, where)


def unused(table: Table, request: Request) -> dict[str, str]:
    """Columns that are no inputs, with the reason: left out by request, an index, or an identifier of the rows.

    What is in ``keep`` is an input in any case; so is a column without which none would be left.
    """
    reasons = {}
    for label in table.frame.columns:
        name = str(label)
        if name == request.target or name in request.keep:
            continue
        if name in request.drop:
            reasons[name] = "left out, as asked (drop)"
        elif name in table.index:
            reasons[name] = f"left out: {table.index[name]}; keep={name!r} makes it an input"
        elif reason := identifies(table.frame[label], name, table):
            reasons[name] = f"left out: {reason}; keep={name!r} makes it an input"
    left = [str(name) for name in table.frame.columns if name != request.target and str(name) not in reasons]
    if not left:
        reasons = {name: reason for name, reason in reasons.items() if name in request.drop}
    if len(reasons) == len(table.frame.columns) - 1:
        raise DataError(
            f"{table.name} has no column but the target {request.target!r} when {', '.join(request.drop)} is left out"
        )
    return reasons


def identifies(column: pd.Series, name: str, table: Table) -> str:
    """Why a column only tells rows apart; empty if it may say more.

    Whole numbers do where they count the rows from 0 or 1, or all differ and are called an identifier; texts of one or
    two words where all differ.
    """
    rows = len(column)
    nameless = name == UNNAMED or re.fullmatch(r"Unnamed: \d+|__index_level_\d+__", name) is not None
    if rows < (2 if nameless else FEWEST_ROWS) or column.isna().any():
        return ""
    if column.dtype.kind in "iu":
        if column.nunique() < rows:
            return ""
        if int(column.max()) - int(column.min()) == rows - 1 and int(column.min()) in (0, 1):
            return "it counts the rows" + (", as the index does that pandas' to_csv writes" if nameless else "")
        named = nameless or _NAMED_AS_IDENTIFIER.search(name)
        return f"an identifier, with as many values as there are rows ({rows:,})" if named else ""
    if column.dtype.kind in "bfM" or not all(isinstance(value, str) for value in column):
        return ""
    if column.nunique() < rows or isinstance(infer(column, table.continental, name, table.name), Number | Date):
        return ""
    words = column.str.count(r"\S+").mean()
    return f"an identifier, with as many values as there are rows ({rows:,})" if words < 3 else ""


def check_same_columns(test: Table, train: Table, unneeded: Collection[str]) -> None:
    """Refuse a test table that lacks a column of the training table or has one more."""
    for name in train.frame.columns:
        if name not in test.frame and name not in unneeded:
            raise DataError(f"{test.name} has no column {name!r}, which {train.name} has")
    for name in test.frame.columns:
        if name not in train.frame:
            raise DataError(f"{test.name} has a column {name!r}, which {train.name} lacks")


def refuse_gaps(columns: pd.DataFrame, where: str) -> None:
    """Refuse inputs with gaps; names the first column and its first row, counted from 1."""
    for name, column in columns.items():
        if column.isna().any():
            row = int(column.isna().to_numpy().argmax()) + 1
            raise DataError(f"{where}: column {name!r} has no value in row {row}; fill it in, or say missing='impute'")
