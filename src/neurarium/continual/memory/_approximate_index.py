"""Approximate nearest neighbours by faiss, beside a store that knows which rows are there."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np
import torch
from torch import Tensor


class ApproximateIndex:
    """An inverted-file (``"ivf"``) or graph (``"hnsw"``) index over rows of unit vectors.

    Rows are added in order. A removed row leaves an inverted file at once; a graph cannot lose a node, so there it is
    only hidden, and its vector stays in the index until that is built anew.

    Args:
        kind: ``"ivf"`` or ``"hnsw"``.
        effort: lists visited per query (ivf, of about sqrt(rows); 8 by default) or candidates kept (hnsw, 64): more
            finds more, slower.

    Raises:
        ValueError: an unknown kind.
        ImportError: faiss is not installed.
    """

    def __init__(self, kind: str, effort: int | None = None) -> None:
        if kind not in ("ivf", "hnsw"):
            raise ValueError(f"index must be exact, ivf or hnsw, not {kind!r}")
        if importlib.util.find_spec("faiss") is None:
            raise ImportError(f"index={kind!r} needs faiss: pip install 'neurarium[vectors]'; index='exact' does not")
        self.kind = kind
        self.effort = effort or {"ivf": 8, "hnsw": 64}[kind]
        self._faiss: Any = importlib.import_module("faiss")
        self.clear()

    @property
    def rows(self) -> int:
        """Rows added so far, those removed since included."""
        return self._rows

    def clear(self) -> None:
        """Begin again without rows."""
        self._index: Any = None
        self._rows = self._laid_out_for = 0

    def outgrown(self, rows: int) -> bool:
        """Whether an inverted file was laid out for so few rows that with ``rows`` it had better be built anew."""
        return self.kind == "ivf" and self._index is not None and rows > 4 * self._laid_out_for

    def add(self, vectors: Tensor) -> None:
        """Index further rows; the first call also lays out the lists of an inverted file, for that number of rows."""
        data = vectors.float().numpy()
        if self._index is None and self.kind == "hnsw":
            self._index = self._faiss.IndexHNSWFlat(data.shape[1], 32, self._faiss.METRIC_INNER_PRODUCT)
        elif self._index is None:
            self._laid_out_for = len(data)
            lists = max(1, round(len(data) ** 0.5))
            self._index = self._faiss.IndexIVFFlat(
                self._faiss.IndexFlatIP(data.shape[1]), data.shape[1], lists, self._faiss.METRIC_INNER_PRODUCT
            )
            self._index.cp.min_points_per_centroid = 1
            self._index.cp.max_points_per_centroid = 64
            self._index.train(data)
        if self.kind == "hnsw":
            self._index.add(data)
        else:
            self._index.add_with_ids(data, np.arange(self._rows, self._rows + len(data)))
        self._rows += len(data)

    def remove(self, rows: Tensor) -> None:
        """Take rows out of an inverted file."""
        if self.kind == "ivf" and self._index is not None:
            self._index.remove_ids(self._faiss.IDSelectorBatch(rows.numpy()))

    def search(self, queries: Tensor, k: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Inner products [queries, k] and rows; -inf and row 0 where fewer than ``k`` were found in what was visited.

        Args:
            queries: [queries, features], unit length.
            k: how many.
            hidden: [rows], True for rows that are not to be found.
        """
        shown = np.packbits((~hidden).numpy(), bitorder="little")
        chosen = self._faiss.IDSelectorBitmap(shown)
        if self.kind == "ivf":
            options = self._faiss.SearchParametersIVF(sel=chosen, nprobe=self.effort)
        else:
            options = self._faiss.SearchParametersHNSW(sel=chosen, efSearch=max(self.effort, 2 * k))
        similar, rows = self._index.search(queries.numpy(), k, params=options)
        found, where = torch.from_numpy(similar), torch.from_numpy(rows)
        return found.masked_fill(where < 0, -torch.inf), where.clamp_min(0)
