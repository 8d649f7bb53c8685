"""Small NORB as it is published: matrices of stereo pairs of toys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from neurarium.data._arrays import Arrays, Split
from neurarium.data._errors import DataError
from neurarium.data.known._cache import cache_folder, data_folders

CLASSES = ("animal", "human", "airplane", "truck", "car")
STEMS = {
    "train": "smallnorb-5x46789x9x18x6x2x96x96-training",
    "test": "smallnorb-5x01235x9x18x6x2x96x96-testing",
}
TYPES: dict[int, np.dtype[Any]] = {0x1E3D4C55: np.dtype("u1"), 0x1E3D4C54: np.dtype("<i4"), 0x1E3D4C51: np.dtype("<f4")}


def small_norb(folder: str | Path | None = None) -> Split:
    """24,300 training and 24,300 test pairs of grey images of five kinds of toys (LeCun, Huang and Bottou, 2004).

    Nothing is fetched: the four files (cs.nyu.edu/~yann/data/norb-v1.0-small, 620 MB) are unpacked by hand.

    Args:
        folder: where ``smallnorb-...-dat.mat`` and ``-cat.mat`` are; by default ``small-norb`` in a folder of
            ``NEURARIUM_DATA`` or in the cache.

    Returns:
        x: uint8 [n, 2, 96, 96], left and right; y: the kind of toy. Validation is empty.

    Raises:
        DataError: files that are not there or that are not the set's.
    """
    places = (
        [Path(folder)] if folder is not None else [root / "small-norb" for root in (*data_folders(), cache_folder())]
    )
    home = next((place for place in places if (place / f"{STEMS['train']}-dat.mat").is_file()), None)
    if home is None:
        raise DataError(f"{STEMS['train']}-dat.mat is not in {' or '.join(map(str, places))}: unpack small NORB there")
    parts = {}
    for part, stem in STEMS.items():
        x, y = (read_matrix(home / f"{stem}-{kind}.mat") for kind in ("dat", "cat"))
        if x.dtype != np.uint8 or x.ndim != 4 or x.shape[1] != 2 or y.shape != x.shape[:1]:
            raise DataError(
                f"{home / stem}-dat.mat holds {x.dtype} {x.shape} and {y.shape} labels, not pairs of images"
            )
        parts[part] = Arrays(torch.from_numpy(x), torch.from_numpy(y.astype(np.int64)))
    return Split(parts["train"], parts["train"][:0], parts["test"], CLASSES, "small-norb")


def read_matrix(path: Path) -> np.ndarray:
    """An array in the set's binary matrix format: a number that tells the type, the dimensions, the entries.

    Raises:
        DataError: the file is not there, has another type, or another length than it says.
    """
    try:
        content = path.read_bytes()
    except OSError as fault:
        raise DataError(f"{path} cannot be read: {fault}") from None
    if len(content) < 20:
        raise DataError(f"{path} is no matrix file: it has {len(content)} bytes")
    magic, dimensions = (int(n) for n in np.frombuffer(content[:8], "<i4"))
    if magic not in TYPES or not 1 <= dimensions <= 8:
        raise DataError(f"{path} is no matrix file of a known type ({magic:#x}, {dimensions} dimensions)")
    start = 8 + 4 * max(3, dimensions)  # a vector has room for three sizes, too
    shape = tuple(int(n) for n in np.frombuffer(content[8 : 8 + 4 * dimensions], "<i4"))
    kind = TYPES[magic]
    if len(content) - start != kind.itemsize * int(np.prod(shape)):
        raise DataError(f"{path} has {len(content) - start} bytes of entries, not those of {shape} {kind}")
    return np.frombuffer(content, kind, offset=start).reshape(shape).copy()
