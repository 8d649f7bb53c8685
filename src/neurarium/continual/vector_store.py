"""Unit vectors with ids and labels: in memory or on disk, safe against crashes and concurrent readers."""

from __future__ import annotations

import difflib
import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Id = int | str

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS items (row INTEGER PRIMARY KEY, id UNIQUE, label INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS levels (row INTEGER, level TEXT, label INTEGER, PRIMARY KEY (row, level)) WITHOUT ROWID;
"""
_DTYPES = {"float32": (np.float32, torch.float32), "float16": (np.float16, torch.float16)}


class VectorStore:
    """Rows of vectors that are only ever appended, removed, or rewritten as a whole.

    On disk it is a folder with ``vectors.float32`` (or ``.float16``), the rows one after another, read through a
    memory map, and ``items.sqlite``, whose transactions decide what exists. ``add`` writes the vectors, syncs them to
    the disk, and then commits their ids: a crash before the commit leaves a tail that the next ``add`` overwrites, one
    after it loses nothing. ``remove`` commits first and then overwrites the vectors with zeros (again on opening, if it
    was interrupted). Writers take turns by the database's lock; readers in other processes see whole transactions.

    Args:
        features: length of a vector; None to take that of the store on disk.
        path: folder; None keeps everything in memory.
        dtype: ``"float32"`` or ``"float16"``.

    Raises:
        ValueError: the folder holds vectors of another length or dtype.
    """

    def __init__(self, features: int | None = None, path: str | Path | None = None, dtype: str = "float32") -> None:
        if dtype not in _DTYPES:
            raise ValueError(f"dtype must be float32 or float16, not {dtype!r}")
        self.path = None if path is None else Path(path)
        if self.path is not None:
            self.path.mkdir(parents=True, exist_ok=True)
        database = ":memory:" if self.path is None else str(self.path / "items.sqlite")
        self._db = sqlite3.connect(database, timeout=60, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)
        kept_features, kept_dtype = self._meta("features"), self._meta("dtype")
        if kept_features is not None and features not in (None, kept_features):
            raise ValueError(f"the store at {path} holds vectors of {kept_features} features, not {features}")
        if kept_dtype is not None and kept_dtype != dtype:
            dtype = str(kept_dtype)
        self.features = features if kept_features is None else int(kept_features)
        self.dtype = dtype
        self.vectors = torch.empty(0, self.features or 0, dtype=_DTYPES[dtype][1])
        self.labels = torch.empty(0, dtype=torch.int64)
        self.levels: dict[str, Tensor] = {}
        self.removed = torch.empty(0, dtype=torch.bool)
        self._room = np.empty((0, 0))
        self._seen = (-1, -1)
        self.refresh()
        gone = self.removed.nonzero().flatten()
        if len(gone) and bool(self.vectors[gone].any()):
            self._erase(gone)

    def __len__(self) -> int:
        """Number of items that are there."""
        return int((~self.removed).sum())

    def add(
        self,
        vectors: Tensor,
        labels: Tensor,
        ids: Sequence[Id] | None = None,
        levels: dict[str, Tensor] | None = None,
    ) -> list[Id]:
        """Append vectors; when it returns they are on the disk.

        Args:
            vectors: [items, features].
            labels: class of each, [items].
            ids: unique name of each, an integer or text; by default integers that go on from the largest row.
            levels: further labels by name of a level, [items] each.

        Returns:
            The ids.

        Raises:
            ValueError: an id is there already or twice in ``ids``, or sizes do not fit.
        """
        self._check(vectors, labels, ids, levels or {})
        if len(vectors) == 0:
            return []
        data = np.ascontiguousarray(vectors.numpy(), dtype=_DTYPES[self.dtype][0])
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if self._meta("features") is None:
                self._set_meta(features=self.features, dtype=self.dtype, generation=0)
            first = int(self._meta("rows") or 0)
            rows = range(first, first + len(data))
            names: list[Id] = list(rows) if ids is None else [_plain(name) for name in ids]
            try:
                self._db.executemany(
                    "INSERT INTO items VALUES (?, ?, ?)", zip(rows, names, labels.tolist(), strict=True)
                )
            except sqlite3.IntegrityError:
                raise ValueError(f"id {self._repeated(names)!r} is there already; ids must be unique") from None
            for level, values in (levels or {}).items():
                triples = zip(rows, [level] * len(data), values.tolist(), strict=True)
                self._db.executemany("INSERT INTO levels VALUES (?, ?, ?)", triples)
            self._set_meta(rows=first + len(data))
            self._write(data, first)
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self.refresh()
        return names

    def remove(self, rows: Tensor) -> None:
        """Take rows out for good: their ids and labels are deleted and their vectors overwritten with zeros."""
        self._db.execute("BEGIN IMMEDIATE")
        for table in ("items", "levels"):
            self._db.executemany(f"DELETE FROM {table} WHERE row = ?", [(row,) for row in rows.tolist()])
        self._count_edit()
        self._db.execute("COMMIT")
        self.refresh()
        self._erase(rows)

    def rows(self, ids: Iterable[Id]) -> Tensor:
        """Rows of ids.

        Raises:
            ValueError: an id is unknown; the message names the nearest ones.
        """
        found = []
        for name in ids:
            row = self._db.execute("SELECT row FROM items WHERE id = ?", (_plain(name),)).fetchone()
            if row is None:
                raise ValueError(f"there is no item with id {name!r}; nearest: {', '.join(self._near(name)) or 'none'}")
            found.append(row[0])
        return torch.tensor(found, dtype=torch.int64)

    def ids(self, rows: Sequence[int]) -> list[Id]:
        """Ids of rows that are there."""
        if len(rows) > 500:
            names = dict(self._db.execute("SELECT row, id FROM items"))
            return [names[row] for row in rows]
        return [self._db.execute("SELECT id FROM items WHERE row = ?", (row,)).fetchone()[0] for row in rows]

    def relabel(self, row: int, label: int) -> None:
        """Give one row another label."""
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("UPDATE items SET label = ? WHERE row = ?", (label, row))
        self._count_edit()
        self._db.execute("COMMIT")
        self.refresh()

    def copy_to(self, path: str | Path) -> None:
        """Write what is there as a new store, without gaps, into an empty folder; equal contents give equal bytes.

        Raises:
            ValueError: the folder is not empty.
        """
        target = Path(path)
        if target.exists() and any(target.iterdir()):
            raise ValueError(f"{target} is not empty: save into a new folder")
        keep = (~self.removed).nonzero().flatten()
        copy = VectorStore(self.features, target, self.dtype)
        if len(keep):
            levels = {name: values[keep] for name, values in self.levels.items()}
            copy.add(self.vectors[keep], self.labels[keep], self.ids(keep.tolist()), levels)
        copy.close()

    def close(self) -> None:
        """Close the database; its log goes into the file."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()

    def refresh(self) -> bool:
        """See what this or another process committed since the last look; True if there was anything."""
        self._db.execute("BEGIN")
        try:
            total, edits = int(self._meta("rows") or 0), int(self._meta("edits") or 0)
            if (total, edits) == self._seen:
                return False
            self.features = self._meta("features") or self.features
            known = len(self.labels) if edits == self._seen[1] else 0  # rows are only read again after an edit
            items = self._db.execute("SELECT row, label FROM items WHERE row >= ? ORDER BY row", (known,)).fetchall()
            extra = self._db.execute("SELECT level, row, label FROM levels WHERE row >= ?", (known,)).fetchall()
        finally:
            self._db.execute("COMMIT")
        table = torch.tensor(items, dtype=torch.int64).reshape(-1, 2)
        self.labels = _extended(self.labels[:known], total, -1)
        self.labels[table[:, 0]] = table[:, 1]
        self.removed = _extended(self.removed[:known], total, True)
        self.removed[table[:, 0]] = False
        self.levels = {level: _extended(values[:known], total, -1) for level, values in self.levels.items()}
        for level, row, label in extra:
            self.levels.setdefault(level, torch.full((total,), -1))[row] = label
        self.vectors = self._view(total)
        self._seen = (total, edits)
        return True

    def _check(self, vectors: Tensor, labels: Tensor, ids: Sequence[Id] | None, levels: dict[str, Tensor]) -> None:
        if vectors.dim() != 2 or (self.features is not None and vectors.shape[1] != self.features):
            raise ValueError(f"vectors must be [items, {self.features or 'features'}], not {tuple(vectors.shape)}")
        for name, values in {"labels": labels, **{f"level {name!r}": v for name, v in levels.items()}}.items():
            if values.shape != (len(vectors),) or values.is_floating_point() or bool((values < 0).any()):
                raise ValueError(f"{name} must be {len(vectors)} integers that are not negative")
        if ids is not None and len(ids) != len(vectors):
            raise ValueError(f"there are {len(ids)} ids for {len(vectors)} vectors")
        self.features = vectors.shape[1]

    def _meta(self, name: str) -> Any:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def _set_meta(self, **values: Any) -> None:
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())

    def _count_edit(self) -> None:
        self._set_meta(edits=int(self._meta("edits") or 0) + 1)

    def _file(self) -> Path:
        return (self.path or Path()) / f"vectors.{self.dtype}"

    def _write(self, data: np.ndarray, first: int) -> None:
        """Put rows at their place, and on the disk."""
        if self.path is None:
            total = first + len(data)
            if total > len(self._room):
                room = np.zeros((max(total, 2 * len(self._room)), data.shape[1]), data.dtype)
                if first:
                    room[:first] = self._room[:first]
                self._room = room
            self._room[first:total] = data
            return
        with open(os.open(self._file(), os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
            file.seek(first * data.shape[1] * data.itemsize)
            file.write(data.tobytes())
            file.truncate()
            file.flush()
            os.fsync(file.fileno())

    def _erase(self, rows: Tensor) -> None:
        if self.path is None:
            self._room[rows.numpy()] = 0
            return
        kind = _DTYPES[self.dtype][0]
        mapped = np.memmap(self._file(), kind, "r+", shape=(len(self.labels), int(self.features or 0)))
        mapped[rows.numpy()] = 0
        mapped.flush()

    def _view(self, total: int) -> Tensor:
        """The first rows as a tensor that shares memory with the store (with the file: a private map of it)."""
        if total == 0:
            return torch.empty(0, self.features or 0, dtype=_DTYPES[self.dtype][1])
        if self.path is None:
            return torch.from_numpy(self._room[:total])
        shape = (total, int(self.features or 0))
        return torch.from_numpy(np.memmap(self._file(), _DTYPES[self.dtype][0], "c", shape=shape))

    def _repeated(self, names: Sequence[Id]) -> Id:
        """The first id that occurs twice in the list or is in the store."""
        seen: set[Id] = set()
        for name in names:
            if (
                name in seen
                or self._db.execute("SELECT 1 FROM items WHERE id = ? AND row < ?", (name, len(self.labels))).fetchone()
            ):
                return name
            seen.add(name)
        return names[0]

    def _near(self, name: Id) -> list[str]:
        known = [str(row[0]) for row in self._db.execute("SELECT id FROM items LIMIT 10000")]
        return difflib.get_close_matches(str(name), known, n=3, cutoff=0.0)


def _plain(name: Any) -> Id:
    return name if isinstance(name, str) else int(name)


def _extended(values: Tensor, total: int, fill: int | bool) -> Tensor:
    return torch.cat([values, torch.full((total - len(values),), fill, dtype=values.dtype)])
