"""Folders of images, one sub-folder per class."""

from __future__ import annotations

from pathlib import Path

import torch

from neurarium.data._arrays import Arrays, Split
from neurarium.data._errors import DataError
from neurarium.data._folders import find_files
from neurarium.data._splitting import FRACTIONS, split_arrays
from neurarium.data.images._read import SUFFIXES, UNREADABLE, read_images


def read_image_folder(
    folder: Path, fractions: tuple[float, float, float] | None, seed: int, size: int | None = None
) -> Split:
    """``FOLDER/CLASS/IMAGE``, or ``FOLDER/train/CLASS/IMAGE`` and ``FOLDER/test/...`` (``validation`` if it is there).

    They come as uint8 [n, height, width] where all are grey, else [n, 3, height, width]; classes are the sub-folders'
    names in alphabetical order.

    Args:
        folder: an existing folder.
        fractions: of train, validation and test, for a folder that is not split.
        seed: of that split.
        size: make every image a square of so many pixels; by default all must have one size.

    Raises:
        DataError: no images, a class without any, an unreadable image, or images of different sizes.
    """
    found = find_files(folder, SUFFIXES, "images", UNREADABLE)
    if "all" not in found.parts and fractions is not None:
        raise DataError(f"{folder} is already split; leave split out")
    every = [path for files in found.parts.values() for _, path in files]
    images, note = read_images(every, size)
    notes = {folder.name: "; ".join(filter(None, (found.note, note)))} if found.note or note else {}
    parts = dict(zip(found.parts, torch.stack(images).split([len(files) for files in found.parts.values()])))
    data = {part: Arrays(x, torch.tensor(found.labels(part))) for part, x in parts.items()}
    if "all" in data:
        split = split_arrays(
            data["all"], fractions=fractions or FRACTIONS, seed=seed, classes=found.classes, name=folder.name
        )
        return Split(split.train, split.validation, split.test, found.classes, folder.name, notes)
    validation = data.get("validation", data["train"][:0])
    return Split(data["train"], validation, data["test"], found.classes, folder.name, notes)
