"""Files that our own ``save`` methods wrote, read back or refused with one sentence; nothing of a stranger's is run."""

from __future__ import annotations

import os
import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neurarium.data._archives import BROKEN, reason
from neurarium.data._errors import DataError

UNREADABLE = (*BROKEN, pickle.UnpicklingError, LookupError, AttributeError, TypeError, AssertionError, MemoryError)
"""What ``torch.load`` raises on files that ``torch.save`` did not write."""


def read_saved(path: str | os.PathLike[str], writer: str, needed: Collection[str] = ()) -> dict[str, Any]:
    """The dictionary that ``torch.save`` wrote, on the CPU.

    Args:
        path: of the file.
        writer: what wrote it, for messages: ``"NeuronSet.save"``.
        needed: names that must be in it.

    Raises:
        DataError: there is no such file, it is damaged, holds objects that could run code, or lacks a name.
    """
    path = existing(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE:
        raise DataError(f"{path} is no file that {writer} wrote, or is damaged") from None
    missing = [name for name in needed if not isinstance(content, Mapping) or name not in content]
    if not isinstance(content, Mapping) or missing:
        lacks = f": it has no {missing[0]!r}" if isinstance(content, Mapping) else ""
        raise DataError(f"{path} is no file that {writer} wrote{lacks}")
    return dict(content)


def read_tensors(path: str | os.PathLike[str], writer: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file.

    Raises:
        DataError: there is no such file, or it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = existing(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, *BROKEN) as error:
        raise DataError(f"{path} is no file that {writer} wrote, or is damaged ({reason(error)})") from None


def existing(path: str | os.PathLike[str]) -> Path:
    """The path of a file that is there."""
    found = Path(path).expanduser()
    if not found.is_file():
        raise DataError(f"{found} is a folder, not a file" if found.is_dir() else f"there is no file {found}")
    return found
