"""The text formats of time series: ``.ts`` of sktime and aeon, and the lines of the UCR archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neurarium.data._archives import reason
from neurarium.data._errors import DataError


@dataclass(frozen=True)
class Series:
    """One part of a set.

    Args:
        values: float32 [channels, steps] of each series; NaN where a value is missing.
        targets: class or quantity of each, as written.
        quantities: whether the targets are quantities.
        where: the file, for messages.
    """

    values: list[NDArray[np.float32]]
    targets: list[str]
    quantities: bool
    where: str


def read_ts(path: Path) -> Series:
    """A ``.ts`` file without time stamps: ``value,value,...:value,value,...:target``, a line for each series.

    Raises:
        DataError: it has time stamps or no targets, no data, or a value that is no number.
    """
    lines = lines_of(path)
    begin = next((i for i, line in enumerate(lines, 1) if line.strip().lower() == "@data"), 0)
    if not begin:
        raise DataError(f"{path} has no line @data, so it is not a .ts file")
    told = (line[1:].partition(" ") for line in lines[:begin] if line.startswith("@"))
    header = {key.lower(): value.strip() for key, _, value in told}
    if header.get("timestamps", "false").lower() == "true":
        raise DataError(f"{path} has time stamps, which are not read; give the values alone")
    labelled = header.get("classlabel", "false").lower().startswith("true")
    quantities = header.get("targetlabel", "false").lower().startswith("true")
    if not labelled and not quantities:
        raise DataError(f"{path} has neither @classLabel nor @targetLabel, so there is nothing to predict")
    values, targets = [], []
    for offset, line in enumerate(lines[begin:], begin + 1):
        if not line.strip() or line.startswith("#"):
            continue
        *channels, target = line.strip().split(":")
        if not channels:
            raise DataError(f"{path}, line {offset}: a series and its target are separated by a colon")
        numbers = [parse(channel, ",", path, offset) for channel in channels]
        steps = max(len(channel) for channel in numbers)
        series = np.full((len(numbers), steps), np.nan, np.float32)
        for row, channel in enumerate(numbers):
            series[row, : len(channel)] = channel
        values.append(series)
        targets.append(target.strip())
    return checked(Series(values, targets, quantities, str(path)))


def read_ucr(path: Path) -> Series:
    """A line for each series: the class, then the values, separated by tabs, commas or blanks."""
    values, targets = [], []
    for number, line in enumerate(lines_of(path), 1):
        if line.strip():
            separator = next((mark for mark in ("\t", ",") if mark in line), None)
            first, *rest = line.strip().split(separator)
            numbers = parse(" ".join(rest), None, path, number)
            ended = len(numbers) - int(np.isnan(numbers[::-1]).cumprod().sum())  # unequal lengths end in NaN
            values.append(numbers[None, : max(ended, 1)])
            try:
                targets.append(f"{float(first):g}")
            except ValueError:
                targets.append(first.strip())
    return checked(Series(values, targets, False, str(path)))


def lines_of(path: Path) -> list[str]:
    """The lines of a text file."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a readable text file ({reason(error)})") from None


def parse(text: str, separator: str | None, path: Path, line: int) -> NDArray[np.float32]:
    """Numbers, NaN where there is a question mark."""
    fields = text.split(separator)
    try:
        return np.array([np.nan if field.strip() in ("?", "NaN") else float(field) for field in fields], np.float32)
    except ValueError as error:
        raise DataError(f"{path}, line {line}: {reason(error)}") from None


def checked(series: Series) -> Series:
    """The part, if it holds a series and a target of the right kind for each."""
    if not series.values or any(values.size == 0 for values in series.values):
        raise DataError(f"{series.where} holds no series" + (" of any length" if series.values else ""))
    if series.quantities:
        for row, target in enumerate(series.targets, 1):
            try:
                float(target)
            except ValueError:
                raise DataError(f"{series.where}: the target of series {row} is {target!r}, not a number") from None
    return series
