"""Known tables of a few columns, as numbers: which columns and rows, and which categories become columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from neurarium.data._arrays import Arrays, Split
from neurarium.data._splitting import split_arrays
from neurarium.data.known._cache import members
from neurarium.data.known._sets import DataSet

Row = Mapping[str, str]


@dataclass(frozen=True)
class PlainTable:
    """How a file of rows becomes numbers.

    Args:
        numbers: columns that are numbers, in order; they come first.
        categories: column -> its values; each becomes a column of 0 and 1.
        target: gives a row's target.
        keep: whether a row is used; rows with an empty or missing number never are.
        classes: names of the classes; empty for a number as target.
    """

    numbers: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]]
    target: Callable[[Row], float]
    keep: Callable[[Row], bool] = lambda row: True
    classes: tuple[str, ...] = ()


def _compas_row(row: Row) -> bool:
    """ProPublica's filter: charges within 30 days of the screening, known outcome, no ordinary traffic offences."""
    days = row["days_b_screening_arrest"]
    return (
        days != "" and abs(float(days)) <= 30 and row["is_recid"] != "-1"
        and row["c_charge_degree"] != "O" and row["score_text"] != "N/A"
    )  # fmt: skip


TABLES: dict[str, PlainTable] = {
    "auto-mpg": PlainTable(
        ("cyl", "displ", "hp", "weight", "accel", "yr"), {"origin": ("1", "2", "3")}, lambda row: float(row["mpg"])
    ),
    "heart-cleveland": PlainTable(
        ("age", "trestbps", "chol", "thalch", "oldpeak", "ca"),
        {
            "sex": ("Male",),
            "cp": ("typical angina", "atypical angina", "non-anginal", "asymptomatic"),
            "fbs": ("TRUE",),
            "restecg": ("normal", "lv hypertrophy", "st-t abnormality"),
            "exang": ("TRUE",),
            "slope": ("upsloping", "flat", "downsloping"),
            "thal": ("normal", "fixed defect", "reversable defect"),
        },
        lambda row: float(int(row["num"]) > 0),
        lambda row: row["dataset"] == "Cleveland",
        ("healthy", "diseased"),
    ),
    "compas": PlainTable(
        ("age", "priors_count", "juv_fel_count", "juv_misd_count", "juv_other_count"),
        {
            "sex": ("Male",),
            "race": ("African-American", "Asian", "Caucasian", "Hispanic", "Native American", "Other"),
            "c_charge_degree": ("F",),
        },
        lambda row: float(row["two_year_recid"]),
        _compas_row,
        ("no", "two years"),
    ),
}


def columns(name: str) -> list[str]:
    """What each input of a table is, in order: ``column``, or ``column=value``."""
    table = TABLES[name]
    return [*table.numbers, *(f"{column}={v}" for column, values in table.categories.items() for v in values)]


def plain_table(entry: DataSet, fractions: Sequence[float], seed: int) -> Split:
    """A known table, split at random."""
    table = TABLES[entry.name]
    content = next(iter(members(entry).values())).decode("utf-8-sig")
    inputs, targets = [], []
    for row in csv.DictReader(io.StringIO(content)):
        if not table.keep(row) or any(row[column] in ("", "NA", "?") for column in table.numbers):
            continue
        numbers = [float(row[column]) for column in table.numbers]
        marks = [float(row[column] == value) for column, values in table.categories.items() for value in values]
        inputs.append(numbers + marks)
        targets.append(table.target(row))
    y = torch.tensor(targets)
    data = Arrays(torch.tensor(inputs), y.long() if table.classes else y)
    return split_arrays(data, fractions=fractions, seed=seed, classes=table.classes, name=entry.name)
