"""Reading archives and array files of any origin: nothing is unpickled, unpacked by path or allocated on trust."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import struct
import tarfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from neurarium.data._errors import DataError

BROKEN = (
    OSError, EOFError, ValueError, RuntimeError, NotImplementedError, OverflowError, struct.error,
    zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile,
)  # fmt: skip
"""What the standard library raises on damaged archives."""

BOMB_BYTES = 64 << 20
BOMB_RATIO = 500


def available_bytes() -> int:
    """The machine's memory: no single file may claim more."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not every platform tells
        return 16 << 30


def check_size(wanted: int, what: str) -> None:
    """Refuse what would not fit into memory, before anything is allocated.

    Raises:
        DataError: ``wanted`` bytes are more than the machine has.
    """
    if wanted > available_bytes():
        raise DataError(f"{what} claims {wanted / 1e9:,.0f} GB, more than this machine's memory")


def tar_members(path: Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, bytes]:
    """Contents of the regular files of a tar archive by name, read in one pass; links and devices are passed over.

    Names are normalised (``./a`` is ``a``); nothing is written anywhere, so no name can lead out of a folder.

    Raises:
        DataError: the archive is unreadable or truncated, or claims more than the machine's memory.
    """
    found, total = {}, 0
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if not member.isreg() or not wanted(name):
                    continue
                total += member.size
                check_size(total, str(path))
                content = archive.extractfile(member)
                found[name] = content.read() if content else b""
    except DataError:
        raise
    except BROKEN as error:
        raise DataError(f"{path} is not a readable tar archive ({reason(error)})") from None
    return found


def open_zip(path: Path | IO[bytes], what: str) -> zipfile.ZipFile:
    """A zip archive whose members have been checked for sizes that only an attack would have.

    Raises:
        DataError: not a zip archive, truncated, or a decompression bomb.
    """
    try:
        archive = zipfile.ZipFile(path)
    except BROKEN as error:
        raise DataError(f"{what} is not a readable zip archive ({reason(error)})") from None
    check_size(sum(entry.file_size for entry in archive.infolist()), what)
    for entry in archive.infolist():
        if entry.file_size > BOMB_BYTES and entry.file_size > BOMB_RATIO * max(1, entry.compress_size):
            raise DataError(
                f"{what} holds {entry.filename!r} that unpacks to {entry.file_size / 1e6:,.0f} MB, over "
                f"{BOMB_RATIO} times its size; a decompression bomb is not read"
            )
    return archive


def zip_member(archive: zipfile.ZipFile, entry: str | zipfile.ZipInfo, what: str) -> bytes:
    """Contents of one member, checked against its CRC.

    Raises:
        DataError: it is missing, encrypted or damaged.
    """
    name = entry if isinstance(entry, str) else entry.filename
    try:
        return archive.read(entry)
    except KeyError:
        raise DataError(f"{what} has no member {name!r}") from None
    except BROKEN as error:
        raise DataError(f"{what} holds a damaged {name!r} ({reason(error)})") from None


def read_npy(content: bytes, what: str) -> NDArray[np.generic]:
    """The array of an NPY file.

    Raises:
        DataError: not an NPY file, Python objects inside, or more or fewer bytes than its header claims.
    """
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reader(stream)
    except (*BROKEN, SyntaxError, TypeError, RecursionError, MemoryError, tokenize.TokenError) as error:
        raise DataError(f"{what} is not a readable NPY file ({reason(error)})") from None
    if dtype.hasobject:
        raise DataError(f"{what} holds Python objects, which could run code; save plain numbers")
    count = 1
    for size in shape:
        if size < 0:
            raise DataError(f"{what} claims the shape {shape}")
        count *= size
    claimed, present = count * dtype.itemsize, len(content) - stream.tell()
    if claimed != present:
        raise DataError(f"{what} holds {present:,} bytes but its header claims {claimed:,}; is it cut off?")
    if claimed == 0:
        raise DataError(f"{what} is empty: its shape is {shape}")
    flat = np.frombuffer(content, dtype, count, stream.tell())
    return flat.reshape(shape, order="F" if fortran else "C").copy()


def read_npz(path: Path | IO[bytes], what: str = "") -> dict[str, NDArray[np.generic]]:
    """The arrays of an NPZ file by name.

    Raises:
        DataError: not an NPZ file, damaged, with Python objects, with a name twice, or a decompression bomb.
    """
    what = what or str(path)
    arrays: dict[str, NDArray[np.generic]] = {}
    with open_zip(path, what) as archive:
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            if name == entry.filename:
                raise DataError(f"{what} is not an NPZ file: its member {name!r} is no NPY array")
            if name in arrays:
                raise DataError(f"{what} holds the array {name!r} twice")
            arrays[name] = read_npy(zip_member(archive, entry, what), f"{what}: array {name!r}")
    if not arrays:
        raise DataError(f"{what} holds no arrays")
    return arrays


def gunzip(content: bytes, limit: int, what: str) -> bytes:
    """Unpacked contents, at most ``limit`` bytes.

    Raises:
        DataError: not gzip, cut off, or longer than ``limit``.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            unpacked = stream.read(limit + 1)
    except BROKEN as error:
        raise DataError(f"{what} is not a readable gzip file ({reason(error)})") from None
    if len(unpacked) > limit:
        raise DataError(f"{what} unpacks to more than {limit:,} bytes")
    return unpacked


def digest(path: Path, tree: bool = False) -> str:
    """SHA-256 of a file; with ``tree``, ``tree:`` and that of the sorted hashes and base names of an archive's WAVs."""
    if not tree:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    members = tar_members(path, lambda name: name.endswith(".wav"))
    lines = sorted((name.rsplit("/", 1)[-1], hashlib.sha256(content).hexdigest()) for name, content in members.items())
    return "tree:" + hashlib.sha256("".join(f"{sha}  {name}\n" for name, sha in lines).encode()).hexdigest()


def reason(error: BaseException) -> str:
    """The first line of an exception, short."""
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:120].rstrip(".")
