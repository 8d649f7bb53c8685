"""Texts for small language models: sayings, manuals and the documentation of Python packages, by language."""

from __future__ import annotations

import ast
import gzip
import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from neurarium.data._archives import BROKEN, tar_members
from neurarium.data._arrays import Arrays
from neurarium.data._errors import DataError, nearest
from neurarium.data._files import write_whole
from neurarium.data.known._cache import cache_folder, make_folder, obtain, say
from neurarium.data.known._sets import known

CORPORA = ("fortunes", "manpages", "docstrings")
LANGUAGES = ("en", "de", "ru", "zh")
PACKAGES = ("numpy", "scipy", "sklearn")
"""The installed packages whose documentation is a corpus."""


def load_corpus(name: str = "fortunes", language: str = "en") -> str:
    """A text of some million characters.

    Args:
        name: ``"fortunes"`` (sayings, jokes, poems) or ``"manpages"`` (manuals), from the Debian packages of these
            names; ``"docstrings"`` (English only), from packages that are installed beside this library, so that it
            depends on their versions and needs nothing fetched.
        language: ``"en"``, ``"de"``, ``"ru"`` or ``"zh"``; a name may hold it: ``"fortunes-de"``.

    Returns:
        The texts in the order of their files' names, two line ends between them.

    Raises:
        DataError: no such corpus or language, or its package can neither be found nor fetched.
    """
    if isinstance(name, str) and "-" in name:
        name, _, language = name.rpartition("-")
    if name not in CORPORA:
        raise DataError(f"no corpus is called {name!r}; {nearest(str(name), CORPORA)}")
    if language not in LANGUAGES or (name == "docstrings" and language != "en"):
        raise DataError(
            f"{name} is not there in {language!r}, but in {'en' if name == 'docstrings' else ', '.join(LANGUAGES)}"
        )
    if name == "docstrings":
        return docstrings(PACKAGES)
    path = next(iter(obtain(known(f"{name}-{language}", "corpus")).values()))
    return "\n\n".join(fortunes(path) if name == "fortunes" else manpages(path))


def characters(text: str, alphabet: str = "") -> tuple[Int[Tensor, " characters"], str]:
    """A text as numbers, and the alphabet whose places they are.

    Args:
        text: at least one character.
        alphabet: of another text, so that both are numbered alike; by default the text's own characters in order.

    Raises:
        DataError: the text is empty or has a character that the alphabet lacks.
    """
    letters = alphabet or "".join(sorted(set(text)))
    if not text:
        raise DataError("the text is empty")
    place = {letter: number for number, letter in enumerate(letters)}
    strange = next((letter for letter in dict.fromkeys(text) if letter not in place), None)
    if strange is not None:
        raise DataError(f"the text has the character {strange!r}, which the alphabet lacks")
    return torch.tensor([place[letter] for letter in text]), letters


def text_windows(tokens: Int[Tensor, " tokens"], length: int, stride: int = 0) -> Arrays:
    """Pieces of a text and the tokens that follow: ``x`` [n, length], and ``y`` [n, length] one token further on.

    Args:
        tokens: a whole text.
        length: tokens in a piece.
        stride: from the beginning of a piece to that of the next; the length by default, so that none overlap.

    Raises:
        DataError: the text is not longer than a piece, or a length or stride is not positive.
    """
    if length < 1 or stride < 0 or len(tokens) <= length:
        what = f"windows of {length} tokens, {stride or length} apart, need more than {length} tokens"
        raise DataError(f"{what}, not {len(tokens)}")
    pieces = tokens.unfold(0, length + 1, stride or length)
    return Arrays(pieces[:, :-1].contiguous(), pieces[:, 1:].contiguous())


def fortunes(path: Path) -> Iterator[str]:
    """Every saying of a package once."""
    files = tar_members(path, lambda name: "/games/fortunes/" in name and not name.endswith((".dat", ".u8")))
    seen = set()
    for name in sorted(files):
        for saying in re.split(r"^%+\s*$", decoded(files[name]), flags=re.MULTILINE):
            text = re.sub(r"\x1b\[[\d;]*m", "", saying).strip()
            if text and text not in seen:
                seen.add(text)
                yield text


def manpages(path: Path) -> Iterator[str]:
    """Every manual page of a package as plain text."""
    for name, content in sorted(tar_members(path, lambda name: re.search(r"/man\d/.*\.gz$", name) is not None).items()):
        try:
            text = plain(decoded(gzip.decompress(content)))
        except BROKEN as error:
            raise DataError(f"{path} holds a damaged {name} ({error})") from None
        if len(text) > 200:  # the others only point to one of these
            yield text


def plain(roff: str) -> str:
    """A manual page without its markup."""
    lines = []
    for line in roff.splitlines():
        if re.match(r"[.'] *\\\"", line):
            continue
        if line.startswith((".", "'")):
            macro, _, words = line[1:].strip().partition(" ")
            if macro in ("SH", "SS", "B", "I", "BR", "RB", "BI", "IB", "IR", "RI", "SM", "SB", "IP"):
                line = re.sub(r'"([^"]*)"', r"\1", words)
            elif macro in ("PP", "P", "LP", "TP", "sp", "Pp"):
                line = ""
            else:
                continue
        line = re.sub(r"\\f(\[\w*\]|\(..|.)|\\s[-+]?\d|\\[&/,|^%cu]", "", line)
        line = re.sub(r"\\\((em|en|hy)|\\-", "-", line)
        line = re.sub(r"\\\((aq|cq|oq)", "'", line).replace(r"\(dq", '"').replace(r"\e", "\\").replace("\\ ", " ")
        lines.append(re.sub(r"\\\(..|\\\[[^\]]*\]|\\\*\S", "", line).rstrip())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def decoded(content: bytes) -> str:
    """Text in UTF-8, or else in Latin letters."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def docstrings(packages: Sequence[str]) -> str:
    """The documentation of every module, class and function of some packages, read from their files and kept.

    Raises:
        DataError: a package is not installed.
    """
    homes, versions = [], []
    for package in packages:
        found = importlib.util.find_spec(package)
        if found is None or not found.submodule_search_locations:
            raise DataError(f"the package {package} is not installed, whose documentation is a part of the corpus")
        homes.append(Path(found.submodule_search_locations[0]))
        distribution = importlib.metadata.packages_distributions()[package][0]
        versions.append(f"{package}-{importlib.metadata.version(distribution)}")
    kept = make_folder(cache_folder() / "docstrings") / f"{'_'.join(versions)}.txt"
    if kept.is_file():
        return kept.read_bytes().decode("utf-8")
    say(f"reading the documentation of {', '.join(versions)} (once) ...")
    texts = dict.fromkeys(text for home in homes for file in sorted(home.rglob("*.py")) for text in documentation(file))
    whole = "\n\n".join(texts)
    write_whole(kept, whole.encode("utf-8", "replace"))
    return whole


def documentation(file: Path) -> Iterator[str]:
    """The docstrings of one source file; none where it cannot be read."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, OSError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and len(text) > 40:
                yield text
