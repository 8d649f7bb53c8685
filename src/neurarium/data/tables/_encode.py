"""From understood columns to numbers, by the training rows alone."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from neurarium.data._archives import check_size
from neurarium.data._errors import DataError
from neurarium.data._precision import Precision
from neurarium.data.tables._kinds import Date, Kind, Number, Text
from neurarium.data.tables._read import read_table

CATEGORIES = 100
"""A column of more different texts than this is described by what its texts are made of, not by one input each."""

COMPONENTS = 30
"""How many numbers describe such a text."""

Columns = dict[str, NDArray[np.float64]]


@dataclass
class TableEncoder:
    """Turns rows of a table into inputs, as those of the training part were.

    Numbers are taken as they are; a gap becomes the training rows' median and is marked by an input of its own. Dates
    become days since 1970 (in float64, so that seconds count), the year, and month, day, weekday and hour on circles.
    Texts become one input per category; of more than a hundred categories, or of sentences, thirty numbers by the
    letters that they are made of (skrub's `TableVectorizer`). What has one value in all training rows is left out.

    Args:
        kinds: what each column holds, in the order of the inputs.
        name: of the training file, for messages.
    """

    kinds: Mapping[str, Kind]
    name: str
    notes: dict[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    """Names of the inputs."""
    _medians: dict[str, float] = field(default_factory=dict)
    _marked: set[str] = field(default_factory=set)
    _vectorizer: Any = None
    _sources: dict[str, list[str]] = field(default_factory=dict)
    _precision: Precision | None = None

    def fit(self, rows: pd.DataFrame) -> Float[Tensor, "rows inputs"]:
        """Learn from the training rows and return them as inputs.

        Args:
            rows: as `parse` returns them.

        Raises:
            DataError: no column varies, or the inputs would not fit into memory.
        """
        for name, column in rows.items():
            gaps = int(column.isna().sum())
            if gaps == len(column) or column.nunique() + (gaps > 0) < 2:
                self.notes[name] = "left out: " + (
                    "no training row has a value" if gaps == len(column) else "it has one value in all training rows"
                )
                continue
            self.notes[name] = str(self.kinds[name])
            if gaps and not isinstance(self.kinds[name], Text):
                self._marked.add(name)
        self.kinds = {name: kind for name, kind in self.kinds.items() if not self.notes[name].startswith("left out")}
        kept = {name: rows[name] for name in self.kinds}
        self._fit_vectorizer(kept)
        numbers = self._numbers(kept)
        for name, values in numbers.items():
            self._medians[name] = float(np.nanmedian(values)) if np.isnan(values).any() else 0.0
        self._describe(kept)
        filled = {name: self._fill(name, values) for name, values in numbers.items()}
        self.columns = tuple(name for name, values in filled.items() if values.min() < values.max())
        if not self.columns:
            raise DataError(f"{self.name} has no column that varies and could be an input; {self._told()}")
        check_size(len(rows) * len(self.columns) * 12, self.name)
        matrix = np.column_stack([filled[name] for name in self.columns])
        self._precision = Precision.of(matrix)
        for position in self._precision.columns:
            source = max((name for name in self.kinds if self.columns[position].startswith(name)), key=len)
            self.notes[source] += "; standardised here, for float32 could not tell its values apart"
        return torch.from_numpy(self._precision.narrow(matrix))

    def transform(self, rows: pd.DataFrame | str | os.PathLike[str]) -> Float[Tensor, "rows inputs"]:
        """New rows as inputs.

        Args:
            rows: a data frame, or the path of a file, with the columns of the training file (the target may be absent,
                further ones are passed over).

        Raises:
            DataError: a column is missing or holds something else than in training; or the encoder was not fitted.
        """
        if self._precision is None:
            raise DataError("the encoder has to see training rows first (fit)")
        name = "the given rows"
        if not isinstance(rows, pd.DataFrame):
            table = read_table(Path(rows).expanduser())
            rows, name = table.frame, table.name
        return self.encode(self.parse(rows, name))

    def encode(self, rows: pd.DataFrame) -> Float[Tensor, "rows inputs"]:
        """Rows as inputs, as `parse` returns them."""
        assert self._precision is not None
        numbers = self._numbers({name: rows[name] for name in self.kinds})
        matrix = np.column_stack([self._fill(column, numbers[column]) for column in self.columns])
        return torch.from_numpy(self._precision.narrow(matrix))

    def parse(self, rows: pd.DataFrame, where: str) -> pd.DataFrame:
        """The columns read as their kinds say.

        Raises:
            DataError: one is missing, or holds what is not of its kind, or an infinite number.
        """
        parsed = {}
        for name, kind in self.kinds.items():
            if name not in rows:
                raise DataError(f"{where} has no column {name!r}, which {self.name} has")
            parsed[name] = parse(rows[name], kind, name, where)
        return pd.DataFrame(parsed, index=rows.index)

    def _fit_vectorizer(self, columns: Mapping[str, pd.Series]) -> None:
        """Fit skrub's vectorizer on the columns of text and dates, if there are any."""
        others = {name: column for name, column in columns.items() if not isinstance(self.kinds[name], Number)}
        if not others:
            return
        from sklearn.preprocessing import OneHotEncoder
        from skrub import DatetimeEncoder, StringEncoder, TableVectorizer

        components = min(COMPONENTS, max(2, len(next(iter(others.values()))) // 4))
        self._vectorizer = TableVectorizer(
            cardinality_threshold=CATEGORIES + 1,
            low_cardinality=OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32),
            high_cardinality=StringEncoder(n_components=components, random_state=0),
            datetime=DatetimeEncoder(add_weekday=True, add_total_seconds=False, periodic_encoding="circular"),
            n_jobs=1,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._vectorizer.fit(positional(others))
        made = self._vectorizer.input_to_outputs_
        self._sources = {name: list(made.get(f"c{position}", ())) for position, name in enumerate(others)}

    def _numbers(self, columns: Mapping[str, pd.Series]) -> Columns:
        """Every possible input by name, in the order of the columns, with gaps as NaN."""
        others = {name: column for name, column in columns.items() if not isinstance(self.kinds[name], Number)}
        made = pd.DataFrame()
        if others:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = self._vectorizer.transform(positional(others))
        found: Columns = {}
        for name, column in columns.items():
            if isinstance(self.kinds[name], Number):
                found[name] = column.to_numpy(np.float64)
            else:
                if isinstance(self.kinds[name], Date):
                    found[f"{name} days"] = days(column)
                for output in self._sources[name]:
                    found[f"{name} {output.partition('_')[2]}"] = made[output].to_numpy(np.float64)
            if name in self._marked:
                found[f"{name} is missing"] = column.isna().to_numpy(np.float64)
        return found

    def _fill(self, name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(np.isnan(values), self._medians[name], values)

    def _describe(self, columns: Mapping[str, pd.Series]) -> None:
        """Complete the notes by what became of each column."""
        for name, column in columns.items():
            kind, gaps = self.kinds[name], int(column.isna().sum())
            note = str(kind)
            if isinstance(kind, Date):
                note += ", as days since 1970 and the parts of the date"
            filling = "filled with the median and marked"
            if isinstance(kind, Text):
                count, made = column.nunique(), len(self._sources[name])
                categories = made == count + (gaps > 0)
                note = f"{count:,} categories, one input each"
                filling = "one more category"
                if not categories:
                    note = f"{count:,} different texts, as {made} numbers by their letters"
                    filling = "taken as empty texts"
            if gaps:
                note += f"; {gaps:,} gap(s) in training, {filling}"
            self.notes[name] = note

    def _told(self) -> str:
        return "; ".join(f"{name}: {note}" for name, note in list(self.notes.items())[:5])


def parse(column: pd.Series, kind: Kind, name: str, where: str) -> pd.Series:
    """A column read as its kind says.

    Raises:
        DataError: a value is not of that kind, or an infinite number; with the row, counted from 1.
    """
    try:
        values = kind.read(column)
    except (ValueError, TypeError) as error:
        wrong = str(error)
        rows = (column.astype("str").str.strip() == wrong.strip()).to_numpy()
        row = f"{wrong[:60]!r} in row {int(rows.argmax()) + 1}" if rows.any() else f"of type {column.dtype}"
        what = {Number: "numbers", Date: "dates", Text: "text"}[type(kind)]
        raise DataError(f"{where}: column {name!r} is {row}, where the training rows have {what}") from None
    if isinstance(kind, Number):
        infinite = np.isinf(values.to_numpy(np.float64))
        if infinite.any():
            row_number = int(infinite.argmax())
            raise DataError(
                f"{where}: column {name!r} is {values.iloc[row_number]} in row {row_number + 1}; give it a finite value"
            )
    return values


def positional(columns: Mapping[str, pd.Series]) -> pd.DataFrame:
    """The columns under names that no vectorizer can mistake for one another."""
    return pd.DataFrame({f"c{position}": column for position, column in enumerate(columns.values())})


def days(column: pd.Series) -> NDArray[np.float64]:
    """Days since 1970, with the time of day as a fraction; NaN where there is no date."""
    seconds = column.astype("datetime64[us]").to_numpy().astype(np.int64)
    return np.where(column.isna(), np.nan, seconds / 86_400e6)
