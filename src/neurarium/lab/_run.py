"""What a trial is given: its seed, its device, progress, curves, files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
Progress = Callable[[str, int, int], None]
"""(what is counted, how many are done, how many there are; 0 for unknown)."""


def _silent(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclass
class Run:
    """Handed to ``trial(settings, run)``.

    Args:
        seed: the trial's seed. Torch, NumPy and `random` are seeded with it before the trial starts.
        device: where to put model and data.
        folder: where `artifact` writes; None keeps no files.
        progress: called with what is counted, how many are done, and how many there are.
    """

    seed: int = 0
    device: str = "cpu"
    folder: Path | None = None
    progress: Progress = _silent
    curves: list[dict[str, float | str]] = field(default_factory=list)

    def track(self, items: Iterable[T], what: str = "steps") -> Iterator[T]:
        """Iterate over ``items`` and show how far the trial is. Put it around the outermost loop."""
        total = len(items) if isinstance(items, Sized) else 0
        self.progress(what, 0, total)
        for done, item in enumerate(items, start=1):
            yield item
            self.progress(what, done, total)

    def record(self, **values: float | str) -> None:
        """Keep one row of a curve: numbers (tensors of one element too) and text under column names."""
        self.curves.append({name: v if isinstance(v, str) else _number(name, v) for name, v in values.items()})

    def artifact(self, name: str, content: bytes) -> Path | None:
        """Keep a file of the trial's; returns its path, or None where no files are kept.

        Raises:
            ValueError: ``name`` is not a plain file name.
        """
        if Path(name).name != name or name in ("", ".", ".."):
            raise ValueError(f"artifact name must be a plain file name, not {name!r}")
        if self.folder is None:
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / name
        path.write_bytes(content)
        return path

    def rng(self, *stream: int) -> np.random.Generator:
        """A NumPy generator that depends on the seed and the stream numbers only."""
        return np.random.default_rng((self.seed, *stream))


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"record({name}=...) takes numbers and text, not {type(value).__name__}") from None
    return number if math.isfinite(number) else math.nan
