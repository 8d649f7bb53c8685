"""The known data sets: where each comes from, what its bytes must hash to, what may be done with it.

The table itself is ``sets.toml`` beside this file.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurarium.data._errors import DataError, nearest

LOADERS = {
    "images": "load",
    "table": "load",
    "text": "load_text",
    "pairs": "load_pairs",
    "audio": "load_audio",
    "few-shot": "load_omniglot",
    "graph": "load_graph",
    "triples": "load_triples",
    "crowd": "load_crowd",
    "series": "load_time_series",
    "vectors": "load_word_vectors",
    "corpus": "load_corpus",
}
"""The function that loads each kind of set."""


@dataclass(frozen=True)
class Source:
    """One place a set can come from; the fields are explained at the head of the table."""

    origin: str
    files: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    version: str = ""
    member: str = "{}"
    megabytes: float = 0.0

    def __str__(self) -> str:
        match self.origin:
            case "npm" | "pypi" | "debian":
                registry = {"npm": "npm", "pypi": "PyPI", "debian": "Debian"}[self.origin]
                return f"the {registry} package {self.name} {self.version}".rstrip()
            case "hub":
                return self.name
            case "package":
                return "neurarium itself"
            case "folder":
                return f"{', '.join(self.files)} in a folder of NEURARIUM_DATA"
        return self.origin


@dataclass(frozen=True)
class DataSet:
    """A known data set and its sources, in the order in which they are tried."""

    name: str
    kind: str
    contents: str
    licence: str
    sources: tuple[Source, ...]
    note: str = ""


@functools.cache
def table() -> Mapping[str, DataSet]:
    """Every known data set by name."""
    rows = tomllib.loads(Path(__file__).with_name("sets.toml").read_text(encoding="utf-8"))
    return {name: read_row(name, row) for name, row in rows.items()}


def read_row(name: str, row: dict[str, Any]) -> DataSet:
    """One entry of the table; a source without files of its own has those of the set."""
    files = row.pop("files", {})
    sources = tuple(Source(**{"files": files, **source}) for source in row.pop("sources"))
    return DataSet(name, sources=sources, **row)


def known(name: str, kind: str = "") -> DataSet:
    """The data set called ``name``.

    Args:
        name: of the set.
        kind: that the caller can load; any where empty.

    Raises:
        DataError: no set is called so, or it is of another kind; names the nearest one or the right loader.
    """
    if not isinstance(name, str):
        raise DataError(f"the name of a data set is a string, not {name!r}")
    sets = table()
    if name not in sets:
        raise DataError(f"no data set is called {name!r}; {nearest(name, sets)}")
    entry = sets[name]
    if kind and LOADERS[entry.kind] != LOADERS[kind]:
        raise DataError(f"{name} is not for this function; use neurarium.data.{LOADERS[entry.kind]}({name!r})")
    return entry
