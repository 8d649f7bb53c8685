"""What every probe returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class ProbeResult(ABC):
    """Base of the frozen dataclasses that probes return."""

    @abstractmethod
    def summary(self) -> str:
        """The finding in a few lines of text."""

    @abstractmethod
    def plot(self, ax: Any) -> Any:
        """Draw the finding on a Matplotlib axes and return it."""
