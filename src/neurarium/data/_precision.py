"""Numbers that float32 cannot tell apart (times in seconds, long identifiers) made into ones that it can."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

COARSEST = 1e-3
"""The largest rounding, in standard deviations of a column, that a column may suffer as float32."""


@dataclass(frozen=True)
class Precision:
    """How the columns of a float64 matrix become float32: those that would lose too much are standardised first.

    Args:
        offset: what is subtracted from each column: 0 but for such columns.
        scale: what each column is divided by: 1 but for such columns.
    """

    offset: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def of(cls, train: Float[np.ndarray, "rows columns"]) -> Precision:
        """What the training rows ask for.

        A column does where the rounding of its largest value to float32 is above a thousandth of its standard
        deviation, or where a value is too large or its deviation too small for float32.
        """
        largest = np.abs(train).max(0, initial=0.0)
        centre = train.mean(0)
        with np.errstate(over="ignore", invalid="ignore"):
            deviation = np.sqrt(np.square((train - centre) / np.maximum(largest, 1e-300)).mean(0)) * largest
        limits = np.finfo(np.float32)
        coarse = largest * limits.eps / 2 > COARSEST * deviation
        odd = (deviation > 0) & (coarse | (largest > 1e-2 * limits.max) | (deviation < 1e2 * limits.tiny))
        return cls(np.where(odd, centre, 0.0), np.where(odd, deviation, 1.0))

    @property
    def columns(self) -> list[int]:
        """The columns that are standardised."""
        return [int(i) for i in ((self.offset != 0) | (self.scale != 1)).nonzero()[0]]

    def narrow(self, matrix: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "rows columns"]:
        """The matrix as float32; what lies outside float32's range even so is held at its ends."""
        limit = float(np.finfo(np.float32).max)
        with np.errstate(over="ignore"):
            values = (matrix - self.offset) / self.scale if self.columns else matrix
        return np.clip(values, -limit, limit).astype(np.float32)
