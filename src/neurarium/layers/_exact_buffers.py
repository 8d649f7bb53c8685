"""Buffers that must not be rounded when a module is cast to half precision and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn


class ExactBuffers(nn.Module):
    """A module some of whose buffers follow it to another device but keep their precision.

    Scales, thresholds and sums that a cast rounds, or overflows, do not come back with ``.float()``.

    Attributes:
        exact: names of these buffers.
    """

    exact: ClassVar[tuple[str, ...]] = ()

    def _apply(self, fn: Callable[[Tensor], Tensor], *rest: Any) -> ExactBuffers:
        before = {name: self._buffers[name] for name in self.exact}
        super()._apply(fn, *rest)
        for name, kept in before.items():
            cast = self._buffers[name]
            if kept is not None and cast is not None and cast.dtype != kept.dtype:
                self._buffers[name] = kept.to(cast.device)
        return self
