"""Tables: CSV and Parquet to tensors, with every column understood or refused by name."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurarium.data.archives import check_size, reason
from neurarium.data.arrays import Arrays, Split
from neurarium.data.errors import DataError, nearest
from neurarium.data.splitting import split_rows

LARGEST_VOCABULARY = 1000


@dataclass(frozen=True)
class Table:
    """Columns of equal length: float64, int64, bool, or object for text."""

    columns: Mapping[str, NDArray[np.generic]]
    name: str

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def rows(self, index: Tensor) -> Table:
        """The rows at an index."""
        chosen = index.numpy()
        return Table({name: column[chosen] for name, column in self.columns.items()}, self.name)


def read_table(path: Path) -> Table:
    """A CSV, TSV or Parquet file as checked columns.

    Raises:
        DataError: unreadable, ragged, empty, a column without a name or with one used twice, missing or infinite
            values, a type that is neither number, truth value nor text.
    """
    table = read_parquet(path) if path.suffix.lower() == ".parquet" else read_csv(path)
    check_names(table.column_names, path)
    if table.num_rows == 0:
        raise DataError(f"{path} has columns but no rows")
    check_size(table.nbytes, str(path))
    return Table({name: read_column(table[name], name, path) for name in table.column_names}, path.name)


def read_csv(path: Path) -> pyarrow.Table:
    """A CSV file, or a TSV file if its name says so; the first line names the columns."""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header = next(csv.reader(stream, delimiter=delimiter), [])
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({reason(error)})") from None
    if not any(header):
        raise DataError(f"{path} is empty: its first line should name the columns")
    check_header(header, delimiter, path)
    size = path.stat().st_size
    check_size(8 * size, str(path))
    try:
        return pyarrow.csv.read_csv(
            path,
            # One block, so that a column's type follows from all its values and not from the first megabyte.
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=min(size + 1, 2**31 - 1)),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True, null_values=["", "NA", "NaN", "nan"]),
        )
    except (pyarrow.ArrowException, OSError) as error:
        text = reason(error)
        if "Expected" in text and "columns" in text:
            raise DataError(f"{path} is ragged: {text.removeprefix('CSV parse error: ')}") from None
        what = "is not UTF-8 text; save it as UTF-8" if "UTF8" in text.upper() else f"is not a readable CSV ({text})"
        raise DataError(f"{path} {what}") from None


def read_parquet(path: Path) -> pyarrow.Table:
    """A Parquet file whose uncompressed size has been checked first."""
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            groups = range(file.metadata.num_row_groups)
            check_size(sum(file.metadata.row_group(group).total_byte_size for group in groups), str(path))
            return file.read(use_threads=False)
    except DataError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} is not a readable Parquet file ({reason(error)})") from None


def check_header(header: Sequence[str], delimiter: str, path: Path) -> None:
    """Refuse a first line that does not name the columns."""
    if len(header) == 1:
        for other, suffix in ((";", ","), ("\t", ","), (",", "tab")):
            if other in header[0] and other != delimiter:
                raise DataError(f"{path} has one column only; it seems to be separated by {other!r}, not {suffix!r}")
    if all(is_number(name) for name in header):
        raise DataError(f"{path} has no header: its first line, {','.join(header)[:60]!r}, should name the columns")


def check_names(names: Sequence[str], path: Path) -> None:
    """Refuse columns without a name or with the same one."""
    for position, name in enumerate(names, 1):
        if not name.strip():
            raise DataError(f"{path}: column {position} has no name")
        if name in names[: position - 1]:
            raise DataError(f"{path} has two columns called {name!r}")
    if not names:
        raise DataError(f"{path} has no columns")


def read_column(column: pyarrow.ChunkedArray, name: str, path: Path) -> NDArray[np.generic]:
    """One column without missing or infinite values.

    Raises:
        DataError: with the column and the first row, counted from 1, that cannot be used.
    """
    types = pyarrow.types
    kind = column.type
    if types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if column.null_count:
        row = column.is_null().to_numpy().argmax() + 1
        raise DataError(f"{path}: column {name!r} has no value in row {row}; fill it in or leave the row out")
    if types.is_string(kind) or types.is_large_string(kind):
        return text_column(column.to_pylist(), name, path)
    if types.is_boolean(kind):
        return column.to_numpy().astype(bool)
    if types.is_integer(kind) and kind != pyarrow.uint64():
        return column.to_numpy().astype(np.int64)
    if types.is_floating(kind) or types.is_decimal(kind) or kind == pyarrow.uint64():
        values = column.cast(pyarrow.float64(), safe=False).to_numpy()
        if not np.isfinite(values).all():
            row = (~np.isfinite(values)).argmax()
            raise DataError(f"{path}: column {name!r} is {values[row]} in row {row + 1}; give it a finite value")
        return values
    raise DataError(f"{path}: column {name!r} is of type {kind}; turn it into numbers or text, or leave it out")


def text_column(values: list[str], name: str, path: Path) -> NDArray[np.generic]:
    """A column of text that is not a column of numbers with a slip in it.

    Raises:
        DataError: nearly all values are numbers; names the first that is not.
    """
    distinct = dict.fromkeys(values)
    odd = [value for value in distinct if not is_number(value)]
    if odd and len(distinct) >= 5 and len(odd) <= 0.2 * len(distinct):
        raise DataError(
            f"{path}: column {name!r} holds numbers but for {odd[0]!r} in row {values.index(odd[0]) + 1}; make it one"
        )
    column = np.empty(len(values), object)
    column[:] = values
    return column


def is_number(text: str) -> bool:
    """Whether text reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def check_target(table: Table, target: str | None) -> str:
    """The name of the target column.

    Raises:
        DataError: none is given, there is none of that name (offers the nearest), or it is the only column.
    """
    if target is None:
        raise DataError(f"name the column of {table.name} to predict with target=...; {nearest('', table.columns)}")
    if target not in table.columns:
        raise DataError(f"{table.name} has no column {target!r}; {nearest(target, table.columns)}")
    if len(table.columns) == 1:
        raise DataError(f"{table.name} has no column but the target {target!r}")
    return target


def target_classes(column: NDArray[np.generic], target: str, name: str) -> tuple[object, ...]:
    """The sorted classes of a target of integers, truth values or text; none for floating-point numbers.

    Raises:
        DataError: all rows have the same target.
    """
    values = sorted(set(column.tolist()))
    if len(values) == 1:
        raise DataError(f"{name}: the target column {target!r} is {values[0]!r} in every row; nothing can be learnt")
    return () if column.dtype.kind == "f" else tuple(values)


def split_table(table: Table, target: str | None, fractions: tuple[float, float, float], seed: int) -> Split:
    """A table split at random, by class where the target is a class, and encoded."""
    target = check_target(table, target)
    column = table.columns[target]
    classes = target_classes(column, target, table.name)
    index = {value: label for label, value in enumerate(classes)}
    y = torch.tensor([index[value] for value in column.tolist()]) if classes else torch.zeros(len(table))
    try:
        rows = split_rows(y, fractions, seed, tuple(map(str, classes)), table.name)
    except DataError as error:
        if column.dtype.kind == "i":
            raise DataError(f"{error}; write {target!r} with a decimal point if it is a quantity") from None
        raise
    parts = {name: table.rows(part) for name, part in zip(("train", "validation", "test"), rows)}
    return encode_tables(parts, target, table.name)


def encode_tables(parts: Mapping[str, Table], target: str | None, name: str) -> Split:
    """Tables of the same columns as tensors: numbers as float32, text one-hot by the training rows' values.

    Text that no training row has becomes a row of zeros.

    Args:
        parts: tables by part; ``validation`` may be left out.
        target: column to predict.
        name: of the resulting split.

    Raises:
        DataError: a part lacks a column, has one of another kind or a class that training has not, or a text
            column has too many values to be categories.
    """
    train = parts["train"]
    target = check_target(train, target)
    classes = target_classes(train.columns[target], target, train.name)
    for other in parts.values():
        check_same_columns(other, train)
    features = [column for column in train.columns if column != target]
    vocabularies = {column: vocabulary(train.columns[column], column, train.name) for column in features}
    encoded = {}
    for part, table in parts.items():
        x = [encode_column(table.columns[column], vocabularies[column], column, table.name) for column in features]
        encoded[part] = Arrays(torch.cat(x, 1), encode_target(table.columns[target], classes, target, table.name))
    empty = encoded["train"][:0]
    return Split(encoded["train"], encoded.get("validation", empty), encoded["test"], tuple(map(str, classes)), name)


def check_same_columns(table: Table, train: Table) -> None:
    """Refuse a table that lacks a column of the training table or has one of another kind."""
    for column, values in train.columns.items():
        if column not in table.columns:
            raise DataError(f"{table.name} has no column {column!r}, which {train.name} has")
        if (values.dtype == object) != (table.columns[column].dtype == object):
            raise DataError(f"{table.name}: column {column!r} is text in one file and numbers in the other")
    for column in table.columns:
        if column not in train.columns:
            raise DataError(f"{table.name} has a column {column!r}, which {train.name} lacks")


def vocabulary(column: NDArray[np.generic], name: str, table: str) -> tuple[str, ...]:
    """The sorted values of a column of text; none for numbers."""
    if column.dtype != object:
        return ()
    values = tuple(sorted(set(column.tolist())))
    if len(values) > min(LARGEST_VOCABULARY, max(50, len(column) // 2)):
        raise DataError(
            f"{table}: column {name!r} has {len(values):,} different texts in {len(column):,} rows, too many for "
            "categories; leave it out"
        )
    return values


def encode_column(column: NDArray[np.generic], values: Sequence[str], name: str, table: str) -> Tensor:
    """A column as float32 [rows, 1], or one-hot [rows, values]."""
    if column.dtype != object:
        numbers = torch.from_numpy(column.astype(np.float64)).float()[:, None]
        if not numbers.isfinite().all():
            row = int((~numbers.isfinite()).flatten().nonzero()[0])
            raise DataError(f"{table}: column {name!r} is too large for float32 in row {row + 1}: {column[row]}")
        return numbers
    index = {value: position for position, value in enumerate(values)}
    codes = torch.tensor([index.get(value, len(values)) for value in column.tolist()], dtype=torch.int64)
    return torch.nn.functional.one_hot(codes, len(values) + 1)[:, :-1].float()


def encode_target(column: NDArray[np.generic], classes: Sequence[object], target: str, table: str) -> Tensor:
    """Class indices int64 [rows], or float32 [rows] for a target of floating-point numbers."""
    if not classes:
        return encode_column(column, (), target, table).flatten()
    index = {value: label for label, value in enumerate(classes)}
    for row, value in enumerate(column.tolist(), 1):
        if value not in index:
            raise DataError(f"{table}: the target {target!r} is {value!r} in row {row}, a class without training rows")
    return torch.tensor([index[value] for value in column.tolist()])
