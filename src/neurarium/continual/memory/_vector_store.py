"""Unit vectors with ids and labels: in memory or on disk, safe against crashes and concurrent readers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from neurarium.continual.memory._item_table import Id, ItemTable, plain
from neurarium.continual.memory._row_storage import DTYPES, RowStorage


class VectorStore:
    """Rows of vectors that are only ever appended, removed, or rewritten as a whole.

    On disk it is a folder with ``vectors.float32`` (or ``.float16``), the rows one after another, read through a
    memory map, and ``items.sqlite``, whose transactions decide what exists. ``add`` writes the vectors, syncs them to
    the disk, and then commits their ids: a crash before the commit leaves a tail that the next ``add`` overwrites, one
    after it loses nothing. ``remove`` commits first and then overwrites the vectors with zeros (again on opening, if it
    was interrupted); the database overwrites ids and labels, and empties its log. Writers take turns by the database's
    lock; readers in other processes see whole transactions. Threads share a store; what one of them reads within
    ``with store.reading():`` is one state.

    Args:
        features: length of a vector; None to take that of the store on disk.
        path: folder; None keeps everything in memory.
        dtype: ``"float32"`` or ``"float16"``.

    Raises:
        ValueError: the folder holds vectors of another length or dtype.
    """

    def __init__(self, features: int | None = None, path: str | Path | None = None, dtype: str = "float32") -> None:
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be float32 or float16, not {dtype!r}")
        self.path = None if path is None else Path(path)
        if self.path is not None:
            self.path.mkdir(parents=True, exist_ok=True)
        database = ":memory:" if self.path is None else str(self.path / "items.sqlite")
        self._table = ItemTable(database)
        self.lock = self._table.lock
        kept_features, kept_dtype = self._table.meta("features"), self._table.meta("dtype")
        if kept_features is not None and features not in (None, kept_features):
            raise ValueError(f"the store at {path} holds vectors of {kept_features} features, not {features}")
        if kept_dtype is not None and kept_dtype != dtype:
            dtype = str(kept_dtype)
        self.features = features if kept_features is None else int(kept_features)
        self.dtype = dtype
        self.labels = torch.empty(0, dtype=torch.int64)
        self.levels: dict[str, Tensor] = {}
        self.removed = torch.empty(0, dtype=torch.bool)
        self._storage = RowStorage(self.path, dtype)
        self.vectors = self._storage.view((0, self.features or 0))
        self.version = (-1, -1)  # rows and edits that were seen
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
        with self._table.writing():
            if self._table.meta("features") is None:
                self._table.set_meta(features=vectors.shape[1], dtype=self.dtype)
            first = self._table.committed()[0]
            names: list[Id] = list(range(first, first + len(vectors))) if ids is None else [plain(name) for name in ids]
            self._table.insert(first, names, labels, levels or {})
            self._storage.write(vectors, first)
        self.refresh()
        return names

    def remove(self, rows: Tensor) -> None:
        """Take rows out for good: their ids and labels are deleted and their vectors overwritten with zeros."""
        with self.lock:
            if self._alone(self._table.delete(rows)):
                self.labels = self.labels.index_fill(0, rows, -1)
                self.levels = {name: values.index_fill(0, rows, -1) for name, values in self.levels.items()}
                self.removed = self.removed.index_fill(0, rows, True)
            self.refresh()
            self._erase(rows)

    def rows(self, ids: Iterable[Id]) -> Tensor:
        """Rows of ids.

        Raises:
            ValueError: an id is unknown; the message names the nearest ones.
        """
        return self._table.rows(ids)

    def find(self, ids: Iterable[Id]) -> dict[Id, int]:
        """The row of each id that is there."""
        return self._table.find(ids)

    def ids(self, rows: Sequence[int]) -> list[Id]:
        """Ids of rows that are there.

        Raises:
            ValueError: a row was removed.
        """
        return self._table.ids(rows)

    def relabel(self, row: int, label: int) -> None:
        """Give one row another label.

        Raises:
            ValueError: a negative label.
        """
        if label < 0:
            raise ValueError(f"label must not be negative, not {label}")
        with self.lock:
            if self._alone(self._table.relabel(row, label)):
                self.labels = self.labels.index_fill(0, torch.tensor([row]), label)
            self.refresh()

    @property
    def note(self) -> str:
        """A text that is kept beside the vectors, on disk where they are; copies have it too."""
        return str(self._table.meta("note") or "")

    def set_note(self, text: str) -> None:
        """Replace the note."""
        if text != self.note:
            with self._table.writing():
                self._table.set_meta(note=text)

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
        copy.set_note(self.note)
        if len(keep):
            levels = {name: values[keep] for name, values in self.levels.items()}
            copy.add(self.vectors[keep], self.labels[keep], self.ids(keep.tolist()), levels)
        copy.close()

    def close(self) -> None:
        """Close the database; its log goes into the file."""
        self._table.close()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Everything read inside, ids and labels too, is of one state: the last that was committed on entry."""
        with self._table.reading():
            self._look()
            yield

    def refresh(self) -> bool:
        """See what this or another process committed since the last look; True if there was anything."""
        before = self.version
        with self.reading():
            return self.version != before

    def _look(self) -> None:
        total, edits = committed = self._table.committed()
        if committed == self.version:
            return
        self.features = self._table.meta("features") or self.features
        known = len(self.labels) if edits == self.version[1] else 0  # rows are only read again after an edit
        items, extra = self._table.since(known)
        table = torch.tensor(items, dtype=torch.int64).reshape(-1, 2)
        self.labels = _extended(self.labels[:known], total, -1)
        self.labels[table[:, 0]] = table[:, 1]
        self.removed = _extended(self.removed[:known], total, True)
        self.removed[table[:, 0]] = False
        self.levels = {level: _extended(values[:known], total, -1) for level, values in self.levels.items()}
        for level, row, label in extra:
            self.levels.setdefault(level, torch.full((total,), -1))[row] = label
        self.vectors = self._storage.view((total, self.features or 0))
        self.version = committed

    def _alone(self, before: tuple[int, int]) -> bool:
        """After an edit: whether all else had been seen, so that nothing need be read again."""
        if before != self.version:
            return False
        self.version = (before[0], before[1] + 1)
        return True

    def _check(self, vectors: Tensor, labels: Tensor, ids: Sequence[Id] | None, levels: dict[str, Tensor]) -> None:
        if vectors.dim() != 2 or (self.features is not None and vectors.shape[1] != self.features):
            raise ValueError(f"vectors must be [items, {self.features or 'features'}], not {tuple(vectors.shape)}")
        for name, values in {"labels": labels, **{f"level {name!r}": v for name, v in levels.items()}}.items():
            if values.shape != (len(vectors),) or values.is_floating_point() or bool((values < 0).any()):
                raise ValueError(f"{name} must be {len(vectors)} integers that are not negative")
        if ids is not None and len(ids) != len(vectors):
            raise ValueError(f"there are {len(ids)} ids for {len(vectors)} vectors")

    def _erase(self, rows: Tensor) -> None:
        self._table.clear_log()  # first: a vector that is still there tells, on opening, that this was interrupted
        self._storage.erase(rows, (len(self.labels), int(self.features or 0)))


def _extended(values: Tensor, total: int, fill: int | bool) -> Tensor:
    return torch.cat([values, torch.full((total - len(values),), fill, dtype=values.dtype)])
