"""What a number computed from data depends on, as one hash of their contents."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from neurarium.data._archives import digest, reason
from neurarium.data._errors import DataError
from neurarium.data.known._sets import known, table


def identity(
    name_or_path: str | os.PathLike[str],
    target: str | os.PathLike[str] | None = None,
    split: str | os.PathLike[str] | None = None,
) -> str:
    """A hash of the contents of everything that `load` would read, for the key of a stored result.

    The same contents have the same identity wherever they lie and whatever the file or folder is called; a changed
    byte, another or renamed image in a folder, another target file or another test file gives another one. Hidden files
    (``.DS_Store``, ``._photo.jpg``) do not count. A known set is identified by its published SHA-256s, without being
    fetched.

    Args:
        name_or_path: what `load` takes: the name of a known set, or the path of a file or folder.
        target: column or array of the targets, hashed by its name, or NPY file of them, hashed by its contents.
        split: path of a test file, hashed by its contents.

    Returns:
        64 hexadecimal digits.

    Raises:
        DataError: there is no such set or file, or it cannot be read.
    """
    whole = hashlib.sha256()
    for label, given in (("data", name_or_path), ("target", target), ("split", split)):
        if given is None:
            continue
        path = Path(given).expanduser()
        if label == "data" and str(given) in table():
            content = known_identity(str(given))
        elif label == "target" and not (path.suffix.lower() == ".npy" and path.is_file()):
            content = str(given)
        elif path.exists():
            content = path_identity(path)
        else:
            raise DataError(f"{path} does not exist")
        whole.update(f"{label}\0{content}\0".encode())
    return whole.hexdigest()


def known_identity(name: str) -> str:
    """The name of a known set and the SHA-256s of all its sources."""
    sources = known(name).sources
    return "\0".join([name, *(f"{file} {sha}" for source in sources for file, sha in sorted(source.files.items()))])


def path_identity(path: Path) -> str:
    """The kind and contents of a file, or the relative names and contents of all files of a folder.

    A file's suffix counts, since it decides how the contents are read; the rest of its name does not.
    """
    try:
        if path.is_dir():
            lines = [f"{file.relative_to(path).as_posix()}\0{digest(file)}" for file in visible_files(path)]
            return "folder\0" + "\0".join(lines)
        return f"{path.suffix.lower()}\0{digest(path)}"
    except OSError as error:
        raise DataError(f"{path} cannot be read ({reason(error)})") from None


def visible_files(folder: Path) -> Iterator[Path]:
    """Every file below a folder, in order, but for hidden ones; links are followed once."""
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in sorted(files) if not name.startswith("."))
