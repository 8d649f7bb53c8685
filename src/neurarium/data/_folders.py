"""Folders of files by class: ``CLASS/FILE``, or ``train/CLASS/FILE`` and ``test/CLASS/FILE``."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from neurarium.data._errors import DataError

PARTS = {
    "train": "train", "training": "train", "trn": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "tst": "test",
}  # fmt: skip
DROPPINGS = ("__macosx", "@eadir", "$recycle.bin", "thumbs.db", "desktop.ini")
"""What archives, file servers and desktops leave between a person's files; hidden files (``._photo.jpg``) too."""


@dataclass(frozen=True)
class Found:
    """Files by part and class.

    Args:
        parts: class name and path of each file, by part; ``all`` where the folder is not split.
        classes: names in alphabetical order.
        note: what was decided about the parts; empty if nothing had to be.
    """

    parts: dict[str, list[tuple[str, Path]]]
    classes: tuple[str, ...]
    note: str = ""

    def labels(self, part: str) -> list[int]:
        """The class index of each file of a part."""
        index = {name: label for label, name in enumerate(self.classes)}
        return [index[name] for name, _ in self.parts.get(part, ())]


def find_files(folder: Path, suffixes: Collection[str], what: str, unreadable: Collection[str] = ()) -> Found:
    """The files of a folder.

    A folder with a training and a validation part but none for test is tested on the validation part, as ImageNet is.

    Args:
        folder: an existing folder.
        suffixes: of the files looked for; others are passed over.
        what: the files are called in messages ("images").
        unreadable: suffixes of such files that cannot be read; the first is named.

    Raises:
        DataError: no files, a class without any or only one class, a part that is missing, or a class that the training
            part has not.
    """
    below = list(visible(folder, folders=True))
    named = {PARTS[path.name.lower()]: path for path in below if path.name.lower() in PARTS}
    note = ""
    if named and len(named) == len(below):
        if "train" in named and "validation" in named and "test" not in named:
            note = f"{named['validation'].name} is the test part, for there is no other"
            named["test"] = named.pop("validation")
        if not {"train", "test"} <= named.keys():
            raise DataError(f"{folder} has the part {' and '.join(named)} but needs both train and test folders")
        parts = {part: list_files(path, suffixes, what, unreadable) for part, path in named.items()}
        first = "train"
    else:
        parts, first = {"all": list_files(folder, suffixes, what, unreadable)}, "all"
    classes = tuple(sorted({name for name, _ in parts[first]}))
    for files in parts.values():
        for name, path in files:
            if name not in classes:
                raise DataError(f"{path} is of class {name!r}, which {named['train']} lacks")
    if len(classes) < 2:
        raise DataError(f"{folder} has the one class {classes[0]!r} only; nothing can be learnt")
    return Found(parts, classes, note)


def list_files(
    folder: Path, suffixes: Collection[str], what: str, unreadable: Collection[str]
) -> list[tuple[str, Path]]:
    """Class name and path of every file in the class folders, in order."""
    found = []
    for path in visible(folder, folders=True):
        files = list(visible(path, folders=False))
        for file in files:
            if file.suffix.lower() in unreadable:
                raise DataError(f"{file} is of a kind that cannot be read; save {what} as {' or '.join(suffixes)}")
        chosen = [file for file in files if file.suffix.lower() in suffixes]
        if not chosen:
            raise DataError(f"{path} has no {what} (of {', '.join(suffixes)})")
        found += [(path.name, file) for file in chosen]
    if not found:
        raise DataError(f"{folder} has no sub-folders of {what}, one per class")
    return found


def visible(folder: Path, folders: bool) -> Iterator[Path]:
    """The sub-folders or the files of a folder, in order, without hidden ones and droppings."""
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith(".") or path.name.lower() in DROPPINGS
        if not hidden and (path.is_dir() if folders else path.is_file()):
            yield path
