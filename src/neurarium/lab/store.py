"""The store: one SQLite file with every finished trial. A trial is written in one transaction when it ends."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurarium.lab.errors import RequestError
from neurarium.lab.trial import Outcome, Task

_SCHEMA = """
CREATE TABLE IF NOT EXISTS trials (
    key TEXT PRIMARY KEY, study TEXT NOT NULL, arm TEXT NOT NULL, seed INTEGER NOT NULL, scale TEXT NOT NULL,
    settings TEXT NOT NULL, fingerprint TEXT NOT NULL, device TEXT NOT NULL, threads INTEGER NOT NULL,
    status TEXT NOT NULL, metrics TEXT NOT NULL, curves BLOB NOT NULL,
    wall REAL NOT NULL, cpu REAL NOT NULL, peak_memory INTEGER NOT NULL,
    traceback TEXT NOT NULL, environment TEXT NOT NULL, finished REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS by_study ON trials (study, scale, arm, seed);
"""
_VERSION = 1
_COLUMNS = (
    "key, study, arm, seed, scale, settings, fingerprint, device, threads, status, metrics, curves, wall, cpu, "
    "peak_memory, traceback, environment, finished"
)


@dataclass(frozen=True)
class Row:
    """A stored trial; ``key`` is its identity."""

    key: str
    study: str
    arm: str
    seed: int
    scale: str
    settings: dict[str, Any]
    fingerprint: str
    device: str
    threads: int
    outcome: Outcome


class Store:
    """Finished trials in a file; safe under several processes and a kill at any moment.

    Args:
        path: the SQLite file; made, with its folder, where missing.

    Raises:
        RequestError: the file cannot be opened, is no store, or is of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(path, timeout=60, isolation_level=None)
            self.connection.execute("PRAGMA journal_mode=WAL")
            version = self.connection.execute("PRAGMA user_version").fetchone()[0]
            if version > _VERSION:
                raise RequestError(f"the store {path} was written by a newer neurarium; update this one")
            self.connection.executescript(_SCHEMA)
            self.connection.execute(f"PRAGMA user_version={_VERSION}")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, OSError) as error:
            raise RequestError(
                f"the store {self.path} cannot be used ({error}); move it away, or set NEURARIUM_HOME to another folder"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def put(self, task: Task, outcome: Outcome) -> None:
        """Write a trial; one that is there under the same key is replaced."""
        row = (
            task.key, task.study, task.arm, task.seed, task.scale, json.dumps(task.settings),
            task.fingerprint, task.device, task.threads, outcome.status, json.dumps(outcome.metrics),
            zlib.compress(json.dumps(outcome.curves).encode(), 1), outcome.wall, outcome.cpu, outcome.peak_memory,
            outcome.traceback, json.dumps(outcome.environment), outcome.finished,
        )  # fmt: skip
        with self._explained():
            marks = ", ".join("?" * len(row))
            self.connection.execute(f"INSERT OR REPLACE INTO trials ({_COLUMNS}) VALUES ({marks})", row)

    def get(self, key: str) -> Outcome | None:
        """The outcome under a key, or None."""
        rows = list(self._rows("WHERE key = ?", (key,)))
        return rows[0].outcome if rows else None

    def study(self, study: str, scale: str | None = None) -> list[Row]:
        """The stored trials of a study, newest code last; those of one scale where it is named."""
        if scale is None:
            return list(self._rows("WHERE study = ? ORDER BY finished", (study,)))
        return list(self._rows("WHERE study = ? AND scale = ? ORDER BY finished", (study, scale)))

    def all(self) -> Iterator[Row]:
        """Every stored trial, oldest first."""
        return self._rows("ORDER BY finished", ())

    def forget(self, keys: Iterable[str]) -> None:
        """Delete the trials under these keys, in one transaction."""
        with self._explained(), self.connection:
            self.connection.execute("BEGIN")
            self.connection.executemany("DELETE FROM trials WHERE key = ?", ((key,) for key in keys))

    def _rows(self, where: str, values: tuple[Any, ...]) -> Iterator[Row]:
        with self._explained():
            cursor = self.connection.execute(f"SELECT {_COLUMNS} FROM trials {where}", values)
            cursor.row_factory = sqlite3.Row
            for r in cursor:
                outcome = Outcome(
                    status=r["status"],
                    metrics=json.loads(r["metrics"]),
                    curves=json.loads(zlib.decompress(r["curves"])),
                    wall=r["wall"],
                    cpu=r["cpu"],
                    peak_memory=r["peak_memory"],
                    traceback=r["traceback"],
                    environment=json.loads(r["environment"]),
                    finished=r["finished"],
                )
                settings = json.loads(r["settings"])
                yield Row(
                    r["key"], r["study"], r["arm"], r["seed"], r["scale"], settings, r["fingerprint"], r["device"],
                    r["threads"], outcome,
                )  # fmt: skip
