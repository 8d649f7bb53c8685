"""Binary inputs whose bits are permuted: to be learned from the unit vectors alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurarium.data._arrays import Arrays
from neurarium.data._errors import DataError


@dataclass(frozen=True)
class PermutationTask:
    """x -> P x for a fixed permutation matrix P.

    Inputs are divided by the root of their number of ones: networks without biases give the same signs, and their
    outputs' laws are those of inputs of unit length.

    Args:
        matrix: P, with one 1 in each row and column.

    Raises:
        DataError: the matrix is not a permutation of at least two bits; the message names the row or column.
    """

    matrix: Float[Tensor, "k k"]

    def __post_init__(self) -> None:
        m = self.matrix
        if m.dim() != 2 or m.shape[0] != m.shape[1] or len(m) < 2:
            raise DataError(f"matrix must be square with at least 2 rows, not of shape {list(m.shape)}")
        for axis, name in ((1, "row"), (0, "column")):
            wrong = ((m == 1).sum(axis) != 1) | ((m != 0).sum(axis) != 1)
            if bool(wrong.any()):
                raise DataError(f"{name} {int(wrong.nonzero()[0])} of the matrix must hold one 1 and zeros")

    @classmethod
    def draw(cls, k: int, generator: torch.Generator) -> PermutationTask:
        """A random permutation of k bits."""
        if k < 2:
            raise DataError(f"k must be at least 2, not {k}")
        return cls(torch.eye(k)[torch.randperm(k, generator=generator)])

    @property
    def k(self) -> int:
        """Bits."""
        return len(self.matrix)

    def train(self) -> Arrays:
        """The k unit vectors and what becomes of them: all that there is to learn from."""
        return Arrays(torch.eye(self.k), self.matrix.T.clone())

    def inputs(
        self, *, ones: int | None = None, count: int | None = None, generator: torch.Generator | None = None
    ) -> Int[Tensor, "inputs k"]:
        """Bits: all inputs, or ``count`` drawn ones.

        Args:
            ones: how many bits are set; by default every number from 1 to k, in equal shares where inputs are drawn.
            count: inputs to draw; by default all there are, in order, if they are at most 65,535.
            generator: of the draws.

        Raises:
            DataError: ones is not between 1 and k, or there are too many inputs to list.
        """
        if ones is not None and not 1 <= ones <= self.k:
            raise DataError(f"ones must be between 1 and {self.k}, not {ones}")
        if count is not None:
            numbers = torch.full((count,), ones) if ones else torch.arange(count) % self.k + 1
            ranks = torch.rand(count, self.k, generator=generator).argsort(1).argsort(1)
            return (ranks < numbers[:, None]).long()
        if ones is None:
            if self.k > 16:
                raise DataError(f"2^{self.k} - 1 inputs are too many to list; give count")
            return torch.arange(1, 2**self.k)[:, None] >> torch.arange(self.k) & 1
        if math.comb(self.k, ones) > 65_535:
            raise DataError(f"{math.comb(self.k, ones)} inputs are too many to list; give count")
        return torch.zeros(math.comb(self.k, ones), self.k, dtype=torch.int64).scatter_(
            1, torch.combinations(torch.arange(self.k), ones), 1
        )

    def target(self, bits: Int[Tensor, "inputs k"]) -> Int[Tensor, "inputs k"]:
        """P x for every row."""
        return (bits.to(self.matrix) @ self.matrix.T).long()

    def scaled(self, bits: Int[Tensor, "inputs k"]) -> Float[Tensor, "inputs k"]:
        """Rows of unit length.

        Raises:
            DataError: a row is all zeros.
        """
        ones = bits.sum(1, keepdim=True)
        if bool((ones == 0).any()):
            raise DataError("the all-zero input has no direction; remove it")
        return bits.to(self.matrix) / ones.to(self.matrix).sqrt()
