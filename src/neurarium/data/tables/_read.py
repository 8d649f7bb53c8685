"""Table files to columns: CSV in all the forms that common tools write, Parquet and Excel."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import pyarrow.csv
import pyarrow.feather
import pyarrow.json
import pyarrow.parquet

from neurarium.data._archives import BROKEN, check_size, open_zip, reason, zip_member
from neurarium.data._errors import DataError

GAPS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "none", "n/a", "#N/A", "#NA", "<NA>", "?", "#DIV/0!")
"""What stands for a missing value: what pandas and R write, the question mark of the UCI sets, Excel's errors."""

UNNAMED = "(no name)"
"""What a first column without a name is called: the index that pandas' ``to_csv`` and R's ``write.csv`` write."""

LONGEST = 1 << 32


@dataclass(frozen=True)
class Table:
    """A file's columns, before anything is decided about them.

    Args:
        frame: numbers, truth values, dates, or text, one column each.
        name: of the file, for messages.
        index: columns that are an index by what the file says of itself, with the reason.
        continental: whether the file is of a kind in which 1,5 is one and a half.
        notes: what was noticed about the file as a whole.
    """

    frame: pd.DataFrame
    name: str
    index: dict[str, str] = field(default_factory=dict)
    continental: bool = False
    notes: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frame)


def read_table(path: Path) -> Table:
    """A CSV, TSV, Parquet, Feather, Excel or JSON-lines file; a CSV or TSV may be compressed (.gz, .bz2, .xz, .zip).

    Raises:
        DataError: it is unreadable, ragged or empty, or a column has no name or the name of another.
    """
    match path.suffix.lower():
        case ".parquet" | ".feather":
            table = read_arrow(path)
        case ".jsonl" | ".ndjson":
            table = read_json_lines(path)
        case ".xlsx":
            table = read_excel(path)
        case _:
            table = read_csv(path)
    return tidy(table, path)


def read_csv(path: Path) -> Table:
    """Delimited text: the delimiter, the encoding and a first line ``sep=;`` are found out from the file."""
    notes = {}
    text, encoding = decode(uncompressed(path), path)
    if encoding not in ("utf-8", "utf-8-sig"):
        notes[path.name] = f"read as {encoding}"
    told = re.match(r'"?sep=(.)"?\r?\n', text)  # Excel's own way to name the delimiter
    if told:
        text = text[told.end() :]
    header, delimiter, nameless = sniff(text, told[1] if told else None, path)
    check_header(header, path)
    if nameless:  # R's write.table gives the row names no header
        text = f'""{delimiter}{text}'
    content = text.encode()
    check_size(8 * len(content), str(path))
    try:
        table = pyarrow.csv.read_csv(
            pyarrow.BufferReader(content),
            # One block, so that a column's type follows from all its values and not from the first megabyte.
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=min(len(content) + 1, 2**31 - 1)),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True, null_values=list(GAPS)),
        )
    except (pyarrow.ArrowException, OSError) as error:
        said = reason(error)
        if "Expected" in said and "columns" in said:
            raise DataError(f"{path} is ragged: {said.removeprefix('CSV parse error: ')}") from None
        raise DataError(f"{path} is not a readable CSV ({said})") from None
    names = [name.strip() for name in table.column_names]
    return Table(to_frame(table, names, path), path.name, continental=delimiter == ";", notes=notes)


def uncompressed(path: Path) -> bytes:
    """The file's bytes, unpacked where its name says that they are compressed.

    Raises:
        DataError: they cannot be read, or unpack to more than four gigabytes.
    """
    try:
        match path.suffix.lower():
            case ".zip":
                with open_zip(path, str(path)) as archive:
                    names = [entry for entry in archive.namelist() if not re.match(r"__MACOSX/|(.*/)?\.|.*/$", entry)]
                    if len(names) != 1:
                        raise DataError(f"{path} must hold one table, not {len(names)} files")
                    return zip_member(archive, names[0], str(path))
            case ".gz" | ".bz2" | ".xz" as suffix:
                opened: Any = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}[suffix]
                with opened(path) as stream:
                    content: bytes = stream.read(LONGEST + 1)
                if len(content) > LONGEST:
                    raise DataError(f"{path} unpacks to more than {LONGEST:,} bytes")
                return content
        check_size(8 * path.stat().st_size, str(path))
        return path.read_bytes()
    except DataError:
        raise
    except BROKEN as error:
        raise DataError(f"{path} cannot be read ({reason(error)})") from None


def decode(content: bytes, path: Path) -> tuple[str, str]:
    """The text and its encoding: UTF-8 with or without a mark, UTF-16 with one, else Windows' Latin letters.

    Raises:
        DataError: it is not text.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    elif b"\0" in content:
        encodings = []
    else:
        encodings = ["utf-8-sig" if content.startswith(b"\xef\xbb\xbf") else "utf-8", "cp1252"]
    for encoding in encodings:
        try:
            return content.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    raise DataError(f"{path} is not text; save it as UTF-8")


def sniff(text: str, told: str | None, path: Path) -> tuple[list[str], str, bool]:
    """The header, the delimiter, and whether rows have one field more than the header, as R's row names give them.

    The delimiter is the one by which most rows have as many fields as the header.
    """
    sample, best = text[: 1 << 18], None
    for delimiter in (told,) if told else (";", "\t", "|", ","):
        rows = []
        try:
            for row in csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter):
                rows.append(row)
                if len(rows) > 200:
                    break
        except csv.Error as error:
            raise DataError(f"{path} is not a readable CSV ({reason(error)})") from None
        rows = [row for row in rows if row]
        if not rows:
            raise DataError(f"{path} is empty: its first line should name the columns")
        header, body = rows[0], rows[1 : len(rows) - (len(text) > len(sample))]
        common = Counter(map(len, body)).most_common(1)[0][0] if body else len(header)
        nameless = common == len(header) + 1 and any(row[-1] for row in body if len(row) == common)
        share = sum(len(row) == len(header) + nameless for row in body) / max(1, len(body))
        if best is None or (len(header) > 1, share, len(header)) > best[0]:
            best = (len(header) > 1, share, len(header)), (header, delimiter, nameless)
    assert best is not None  # there is always a delimiter to try
    return best[1]


def check_header(header: Sequence[str], path: Path) -> None:
    """Refuse a first line that does not name the columns; pandas' own names 0, 1, 2 ... are names."""
    if not any(name.strip() for name in header):
        raise DataError(f"{path} is empty: its first line should name the columns")
    if header == [str(i) for i in range(len(header))]:
        return
    if all(is_number(name) for name in header):
        raise DataError(f"{path} has no header: its first line, {','.join(header)[:60]!r}, should name the columns")


def read_arrow(path: Path) -> Table:
    """A Parquet or Feather file whose uncompressed size has been checked; its metadata name pandas' index."""
    kind = "Parquet" if path.suffix.lower() == ".parquet" else "Feather"
    try:
        table = read_parquet(path) if kind == "Parquet" else pyarrow.feather.read_table(path, use_threads=False)
    except DataError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} is not a readable {kind} file ({reason(error)})") from None
    names = [str(name).strip() for name in table.column_names]
    index = {name: "pandas' index, by the file's metadata" for name in pandas_index(table.schema) if name in names}
    return Table(to_frame(table, names, path), path.name, index)


def read_parquet(path: Path) -> pyarrow.Table:
    """A Parquet file, if it fits into memory."""
    with pyarrow.parquet.ParquetFile(path) as file:
        groups = range(file.metadata.num_row_groups)
        check_size(sum(file.metadata.row_group(group).total_byte_size for group in groups), str(path))
        return file.read(use_threads=False)


def read_json_lines(path: Path) -> Table:
    """One JSON object a line; the names in them are the columns."""
    check_size(8 * path.stat().st_size, str(path))
    try:
        content = path.read_bytes()
        table = pyarrow.json.read_json(
            pyarrow.BufferReader(content),
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=min(len(content) + 1, 2**31 - 1)),
        )
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable file of JSON lines ({reason(error)})") from None
    return Table(to_frame(table, [name.strip() for name in table.column_names], path), path.name)


def pandas_index(schema: pyarrow.Schema) -> list[str]:
    """The columns that pandas wrote as the index of its frame."""
    try:
        written = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
        return [name for name in written.get("index_columns", []) if isinstance(name, str)]
    except (ValueError, AttributeError):
        return []


def read_excel(path: Path) -> Table:
    """The first sheet of an Excel file; its first row names the columns."""
    with open_zip(path, str(path)):  # also what makes a bomb end here
        pass
    try:
        with pd.ExcelFile(path, engine="openpyxl") as book:
            sheets = [str(name) for name in book.sheet_names]
            cells = pd.read_excel(book, sheet_name=0, header=None)
    except Exception as error:  # openpyxl lets through whatever its XML parser meets
        raise DataError(f"{path} is not a readable Excel file ({reason(error)})") from None
    if len(cells) == 0:
        raise DataError(f"{path} is empty: its first line should name the columns")
    header = ["" if pd.isna(name) else str(name).strip() for name in cells.iloc[0]]
    check_header(header, path)
    columns = {}
    for position in range(len(header)):
        column = cells.iloc[1:, position].reset_index(drop=True).infer_objects()
        if column.dtype == object and not all(pd.isna(value) for value in column):
            column = column.map(lambda value: value if pd.isna(value) else str(value)).astype("str")
        columns[position] = column
    notes = {path.name: f"read from the first sheet, {sheets[0]!r}, of {len(sheets)}"} if len(sheets) > 1 else {}
    frame = pd.DataFrame(columns)
    frame.columns = pd.Index(header)
    return Table(frame, path.name, notes=notes)


def to_frame(table: pyarrow.Table, names: list[str], path: Path) -> pd.DataFrame:
    """Arrow's columns in pandas: whole numbers, float64, truth values, dates or text.

    A column of another type (a list, bytes) is refused when it is used, not when it is read: it may be left out.
    """
    check_size(table.nbytes, str(path))
    columns = {}
    for position, name in enumerate(names):
        columns[position] = to_series(table.column(position)).rename(name)
    frame = pd.DataFrame(columns)
    frame.columns = pd.Index(names, dtype=object)
    return frame


def to_series(column: pyarrow.ChunkedArray) -> pd.Series:
    """One column."""
    types, kind = pyarrow.types, column.type
    if types.is_dictionary(kind):  # categories, whatever stands for them
        column = column.cast(kind.value_type)
        kind = kind.value_type
        if not types.is_boolean(kind):
            column, kind = column.cast(pyarrow.string()), pyarrow.string()
    if types.is_decimal(kind) or types.is_float16(kind):
        column = column.cast(pyarrow.float64())
    elif types.is_time(kind) or types.is_duration(kind):  # seconds
        unit = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[kind.unit]
        whole = column.cast(pyarrow.int32() if types.is_time32(kind) else pyarrow.int64())
        return whole.to_pandas().astype("float64") / unit
    elif types.is_boolean(kind) and column.null_count:
        return column.cast(pyarrow.int8()).to_pandas().astype("float64")
    elif types.is_timestamp(kind) and kind.tz is not None:
        column = column.cast(pyarrow.timestamp(kind.unit))  # the same instants, in UTC
    values = column.to_pandas(date_as_object=False)
    return values.dt.to_timestamp() if isinstance(values.dtype, pd.PeriodDtype) else values


def tidy(table: Table, path: Path) -> Table:
    """The table without empty rows and nameless empty columns, its nameless first column called so.

    Raises:
        DataError: there are no columns or no rows, a column with values has no name, or two have the same.
    """
    frame, notes, index = table.frame, dict(table.notes), dict(table.index)
    if frame.shape[1] == 0:
        raise DataError(f"{path} has no columns")
    names = [str(name) for name in frame.columns]
    kept = [i for i, name in enumerate(names) if name or not frame.iloc[:, i].isna().all()]
    frame, names = frame.iloc[:, kept], [names[i] for i in kept]
    for position, name in enumerate(names):
        if name == "" and position > 0:
            raise DataError(f"{path}: column {position + 1} has no name")
        if name in names[:position]:
            if not frame.iloc[:, position].equals(frame.iloc[:, names.index(name)]):
                raise DataError(f"{path} has two columns called {name!r}")
            notes[path.name] = also(notes.get(path.name), f"a second column {name!r}, equal to the first, is left out")
    if not names:
        raise DataError(f"{path} has no columns")
    once = [position for position, name in enumerate(names) if name not in names[:position]]
    frame, names = frame.iloc[:, once], [names[i] for i in once]
    empty = frame.isna().all(axis=1)
    if empty.any() and not empty.all():  # what a spreadsheet leaves below its table
        frame = frame[~empty]
        notes[path.name] = also(notes.get(path.name), f"{int(empty.sum())} empty row(s) left out")
    if len(frame) == 0:
        raise DataError(f"{path} has columns but no rows")
    frame = frame.reset_index(drop=True)
    frame.columns = pd.Index([name or UNNAMED for name in names], dtype=object)
    return Table(frame, table.name, index, table.continental, notes)


def also(note: str | None, more: str) -> str:
    """A note with something added."""
    return f"{note}; {more}" if note else more


def is_number(text: str) -> bool:
    """Whether text reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
