"""The contract of the compression room."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from torch import nn


class Compressor(ABC):
    """A way to make a network smaller, constructible without arguments.

    A compressor's own settings are arguments of its constructor; what it works on comes with each call, so one
    object serves many models.
    """

    @abstractmethod
    def compress(self, model: nn.Module, loader: Iterable[Any]) -> nn.Module:
        """A smaller copy of the model.

        Args:
            model: the network; it is left untouched.
            loader: batches ``(x, y)`` to train or calibrate on; may be iterated several times.

        Returns:
            A module that runs, saves and loads in plain PyTorch.
        """
