"""Rows of numbers one after another, in memory or in a file read through a memory map."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

DTYPES = {"float32": (np.float32, torch.float32), "float16": (np.float16, torch.float16)}


class RowStorage:
    """What a `VectorStore` keeps its vectors in. It knows nothing of which rows exist.

    Args:
        folder: where ``vectors.<dtype>`` lies; None keeps the rows in memory.
        dtype: ``"float32"`` or ``"float16"``.
    """

    def __init__(self, folder: Path | None, dtype: str) -> None:
        self.kind, self.torch_kind = DTYPES[dtype]
        self.file = None if folder is None else folder / f"vectors.{dtype}"
        self._room = np.empty((0, 0), self.kind)

    def write(self, vectors: Tensor, first: int) -> None:
        """Put vectors [rows, features] at row ``first`` and cut off what follows; on the disk when this returns."""
        data = np.ascontiguousarray(vectors.numpy(), dtype=self.kind)
        if self.file is None:
            total = first + len(data)
            if total > len(self._room):
                room = np.zeros((max(total, 2 * len(self._room)), data.shape[1]), data.dtype)
                if first:
                    room[:first] = self._room[:first]
                self._room = room
            self._room[first:total] = data
            return
        new = not self.file.exists()
        with open(os.open(self.file, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
            file.seek(first * data.shape[1] * data.itemsize)
            file.write(data.tobytes())
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        if new:
            sync_folder(self.file.parent)

    def erase(self, rows: Tensor, shape: tuple[int, int]) -> None:
        """Overwrite rows with zeros, of a storage of ``shape``."""
        if self.file is None:
            self._room[rows.numpy()] = 0
            return
        mapped = np.memmap(self.file, self.kind, "r+", shape=shape)
        mapped[rows.numpy()] = 0
        mapped.flush()

    def view(self, shape: tuple[int, int]) -> Tensor:
        """The first rows as a tensor that shares memory with the storage (with the file: a private map of it)."""
        if shape[0] == 0:
            return torch.empty(shape, dtype=self.torch_kind)
        if self.file is None:
            return torch.from_numpy(self._room[: shape[0]])
        return torch.from_numpy(np.memmap(self.file, self.kind, "c", shape=shape))


def sync_folder(folder: Path) -> None:
    """Have the disk know the names in a folder, so that a power cut does not lose a new file; POSIX only."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
