"""Which rows exist, under what ids and labels: an SQLite database whose transactions decide."""

from __future__ import annotations

import difflib
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

Id = int | str

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS items (row INTEGER PRIMARY KEY, id UNIQUE, label INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS levels (row INTEGER, level TEXT, label INTEGER, PRIMARY KEY (row, level)) WITHOUT ROWID;
"""


class ItemTable:
    """Ids, labels and further labels ("levels") of rows, and what else is to be known of a store.

    Threads may share it. Deleted contents are overwritten.

    Args:
        database: file name, or ``":memory:"``.
    """

    def __init__(self, database: str) -> None:
        self.lock = threading.RLock()
        self._db = sqlite3.connect(database, timeout=60, isolation_level=None, check_same_thread=False)
        for setting in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
            self._db.execute(f"PRAGMA {setting}")
        self._db.executescript(_SCHEMA)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Everything read inside is of one state: the last that was committed on entry."""
        with self.lock:
            outermost = not self._db.in_transaction
            if outermost:
                self._db.execute("BEGIN")
            try:
                yield
            finally:
                if outermost:
                    self._db.execute("COMMIT")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction, undone if anything fails inside; other writers wait."""
        with self.lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    def meta(self, name: str) -> Any:
        """A number or word that was set under a name, or None."""
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def set_meta(self, **values: Any) -> None:
        """Set numbers or words."""
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())

    def committed(self) -> tuple[int, int]:
        """How many rows were ever added, and how many edits there were."""
        return int(self.meta("rows") or 0), int(self.meta("edits") or 0)

    def insert(self, first: int, names: Sequence[Id], labels: Tensor, levels: Mapping[str, Tensor]) -> None:
        """Rows from ``first`` on; within `writing`.

        Raises:
            ValueError: an id is there already or twice.
        """
        rows = range(first, first + len(names))
        try:
            self._db.executemany("INSERT INTO items VALUES (?, ?, ?)", zip(rows, names, labels.tolist(), strict=True))
        except sqlite3.IntegrityError:
            raise ValueError(f"id {self._repeated(names, first)!r} is there already; ids must be unique") from None
        for level, values in levels.items():
            triples = zip(rows, [level] * len(names), values.tolist(), strict=True)
            self._db.executemany("INSERT INTO levels VALUES (?, ?, ?)", triples)
        self.set_meta(rows=first + len(names))

    def delete(self, rows: Tensor) -> tuple[int, int]:
        """Rows that exist no more; returns what was committed before."""
        gone = [(row,) for row in rows.tolist()]
        with self.writing():
            for table in ("items", "levels"):
                self._db.executemany(f"DELETE FROM {table} WHERE row = ?", gone)
            return self._count_edit()

    def relabel(self, row: int, label: int) -> tuple[int, int]:
        """Another label for a row; returns what was committed before."""
        with self.writing():
            self._db.execute("UPDATE items SET label = ? WHERE row = ?", (label, row))
            return self._count_edit()

    def since(self, first: int) -> tuple[list[tuple[int, int]], list[tuple[str, int, int]]]:
        """Rows from ``first`` on with their labels; and level, row, label of each further label."""
        items = self._db.execute("SELECT row, label FROM items WHERE row >= ? ORDER BY row", (first,)).fetchall()
        return items, self._db.execute("SELECT level, row, label FROM levels WHERE row >= ?", (first,)).fetchall()

    def rows(self, ids: Iterable[Id]) -> Tensor:
        """Rows of ids.

        Raises:
            ValueError: an id is unknown; the message names the nearest ones.
        """
        names = list(ids)
        found = self.find(names)
        for name in names:
            if plain(name) not in found:
                raise ValueError(f"there is no item with id {name!r}; nearest: {', '.join(self._near(name)) or 'none'}")
        return torch.tensor([found[plain(name)] for name in names], dtype=torch.int64)

    def find(self, ids: Iterable[Id]) -> dict[Id, int]:
        """The row of each id that is there."""
        with self.lock:
            pairs = [
                (plain(name), self._db.execute("SELECT row FROM items WHERE id = ?", (plain(name),)).fetchone())
                for name in ids
            ]
        return {name: row[0] for name, row in pairs if row is not None}

    def ids(self, rows: Sequence[int]) -> list[Id]:
        """Ids of rows that are there.

        Raises:
            ValueError: a row was removed.
        """
        wanted = "" if len(rows) > 500 else f" WHERE row IN ({', '.join(str(int(row)) for row in rows)})"
        with self.lock:
            names = dict(self._db.execute("SELECT row, id FROM items" + wanted))
        gone = [row for row in rows if row not in names]
        if gone:
            raise ValueError(f"row {gone[0]} was removed")
        return [names[row] for row in rows]

    def clear_log(self) -> None:
        """Move the log, which still has what was deleted, into the database; waits a minute at most for readers."""
        with self.lock:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the database; its log goes into the file."""
        self.clear_log()
        self._db.close()

    def _count_edit(self) -> tuple[int, int]:
        before = self.committed()
        self.set_meta(edits=before[1] + 1)
        return before

    def _repeated(self, names: Sequence[Id], first: int) -> Id:
        """The first id that occurs twice in the list or is in a row before ``first``."""
        seen: set[Id] = set()
        for name in names:
            there = self._db.execute("SELECT 1 FROM items WHERE id = ? AND row < ?", (name, first)).fetchone()
            if name in seen or there:
                return name
            seen.add(name)
        return names[0]

    def _near(self, name: Id) -> list[str]:
        known = [str(row[0]) for row in self._db.execute("SELECT id FROM items LIMIT 10000")]
        return difflib.get_close_matches(str(name), known, n=3, cutoff=0.0)


def plain(name: Any) -> Id:
    """An id as the database takes it."""
    return name if isinstance(name, str) else int(name)
