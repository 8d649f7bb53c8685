"""Time series for classification or regression, with the split that was published."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from neurarium.data._archives import check_size, read_npz
from neurarium.data._arrays import Arrays, Split
from neurarium.data._errors import DataError, nearest
from neurarium.data.known._cache import obtain
from neurarium.data.known._sets import known, table
from neurarium.data.series._ts_format import Series, read_ts, read_ucr

SUFFIXES = (".ts", ".tsv", ".txt", ".npz")


@dataclass(frozen=True)
class SeriesSplit(Split):
    """Series [n, channels, steps]; shorter ones are filled with zeros behind their end.

    Args:
        lengths: steps of each series, by part (``train``, ``validation``, ``test``).
    """

    lengths: Mapping[str, Int[Tensor, " series"]] = field(default_factory=dict)


def load_time_series(name_or_path: str | os.PathLike[str], test: str | os.PathLike[str] | None = None) -> SeriesSplit:
    """Time series with a training and a test part.

    Args:
        name_or_path: a known set (``gunpoint``, ``italy-power-demand``, ``arrowhead``, ``osuleaf``, ``acsf1``,
            ``basic-motions``, ``japanese-vowels``, ``trace``); or your own training file: ``.ts`` (sktime's and aeon's
            format), ``.tsv`` or ``.txt`` as in the UCR archive (the class first in each line), or an NPZ file with
            ``X_train`` [n, steps, channels], ``y_train``, ``X_test``, ``y_test``.
        test: your test file; by default the file beside it whose name has ``TEST`` for ``TRAIN``.

    Returns:
        Inputs float32 [n, channels, steps]; labels int64 with ``classes``, or float32 quantities without.

    Raises:
        DataError: no such set or file, a value that is missing or no number (names the series and the step), a class
            that training lacks, or parts that do not fit together.
    """
    if isinstance(name_or_path, str) and name_or_path in table():
        if test is not None:
            raise DataError(f"{name_or_path} is a known set; it takes no test file")
        paths = obtain(known(name_or_path, "series"))
        ordered = sorted(paths.values(), key=lambda path: "TEST" in path.name)
        name = name_or_path
    else:
        train = Path(name_or_path).expanduser()
        name = train.name
        if not train.is_file():
            series = [one for one, entry in table().items() if entry.kind == "series"]
            raise DataError(f"no time series or file is called {str(name_or_path)!r}; {nearest(name, series)}")
        if train.suffix.lower() not in SUFFIXES:
            raise DataError(f"{train} is of no kind that holds time series ({', '.join(SUFFIXES)})")
        ordered = [train] if train.suffix.lower() == ".npz" else [train, test_file(train, test)]
    if ordered[0].suffix.lower() == ".npz":
        parts = from_npz(ordered[0])
    else:
        parts = [read_ts(path) if path.suffix.lower() == ".ts" else read_ucr(path) for path in ordered]
    return join(parts[0], parts[1], name)


def test_file(train: Path, test: str | os.PathLike[str] | None) -> Path:
    """The test file that is named, or that belongs to a training file."""
    path = Path(test).expanduser() if test is not None else train.with_name(train.name.replace("TRAIN", "TEST"))
    if path == train or not path.is_file():
        missing = "" if path == train else f" ({path} does not exist)"
        raise DataError(f"name the test file of {train} with test=...{missing}")
    return path


def from_npz(path: Path) -> list[Series]:
    """``X_train`` [n, steps, channels], ``y_train``, ``X_test``, ``y_test``."""
    arrays = read_npz(path)
    parts = []
    for part in ("train", "test"):
        for key in (f"X_{part}", f"y_{part}"):
            if key not in arrays:
                raise DataError(f"{path} has no array {key!r}; {nearest(key, arrays)}")
        x, y = arrays[f"X_{part}"], arrays[f"y_{part}"]
        if x.ndim != 3 or len(x) != len(y):
            raise DataError(f"{path}: 'X_{part}' must be [series, steps, channels] and as long as 'y_{part}'")
        values = [np.asarray(one.T, np.float32) for one in x]
        parts.append(Series(values, [str(label) for label in y.tolist()], y.dtype.kind == "f", f"{path}, {part}"))
    return parts


def join(train: Series, test: Series, name: str) -> SeriesSplit:
    """Two parts as one split, filled up to the longest series of both."""
    channels = train.values[0].shape[0]
    for part in (train, test):
        for row, values in enumerate(part.values, 1):
            if values.shape[0] != channels:
                raise DataError(f"{part.where}: series {row} has {values.shape[0]} channels, the first has {channels}")
            wrong = ~np.isfinite(values)
            if wrong.any():
                step = int(wrong.any(0).argmax()) + 1
                raise DataError(f"{part.where}: series {row} has no finite value at step {step}; fill it in")
    steps = max(values.shape[1] for part in (train, test) for values in part.values)
    check_size(4 * (len(train.values) + len(test.values)) * channels * steps, name)
    classes = () if train.quantities else sort_classes(set(train.targets))
    if not train.quantities and len(classes) < 2:
        raise DataError(f"{train.where} has the one class {classes[0]!r} only; nothing can be learnt")
    arrays, lengths = {}, {}
    for key, part in (("train", train), ("test", test)):
        x = torch.zeros(len(part.values), channels, steps)
        for row, values in enumerate(part.values):
            x[row, :, : values.shape[1]] = torch.from_numpy(values)
        lengths[key] = torch.tensor([values.shape[1] for values in part.values])
        arrays[key] = Arrays(x, targets(part, classes))
    lengths["validation"] = lengths["train"][:0]
    return SeriesSplit(arrays["train"], arrays["train"][:0], arrays["test"], classes, name, lengths=lengths)


def sort_classes(found: set[str]) -> tuple[str, ...]:
    """Classes in the order of their numbers, or of their names."""
    try:
        return tuple(sorted(found, key=float))
    except ValueError:
        return tuple(sorted(found))


def targets(part: Series, classes: tuple[str, ...]) -> Tensor:
    """Class indices int64, or quantities float32."""
    if not classes:
        return torch.tensor([float(value) for value in part.targets])
    index = {value: label for label, value in enumerate(classes)}
    for row, value in enumerate(part.targets, 1):
        if value not in index:
            raise DataError(f"{part.where}: series {row} is of class {value!r}, which training lacks")
    return torch.tensor([index[value] for value in part.targets])
