"""Bits whose distribution depends on a random number of those before them (variable-order Markov sources)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from neurarium.data._errors import DataError
from neurarium.data.sources._sequences import Sequences, check_size


@dataclass(frozen=True)
class ContextTreeSource:
    """Bits from a random binary context tree for each sequence (Grau-Moya et al., 2024).

    Each node down to ``depth`` branches with probability 1/2; each leaf holds the probability of a 1, drawn from
    Beta(1/2, 1/2). A bit comes from the leaf that those before it lead to, the last one first; zeros stand before the
    first. `ContextTreeWeighting` of the same depth and two symbols is the Bayes mixture over all these trees.

    No tree is stored: whether a node branches and what it holds are hashes of its context and the tree's own number,
    so that a depth of 24 takes no more memory than one of 3.

    Args:
        depth: most bits that matter, 62 at most.

    Raises:
        DataError: ``depth`` is out of range.
    """

    depth: int = 5

    def __post_init__(self) -> None:
        if not 0 <= self.depth <= 62:
            raise DataError(f"depth must be between 0 and 62, not {self.depth}")

    @property
    def symbols(self) -> int:
        """Two."""
        return 2

    def sample(self, count: int, length: int, generator: torch.Generator) -> Sequences:
        """Draw sequences; ``truth`` is known.

        Args:
            count: how many.
            length: bits in each.
            generator: source of all draws, on the CPU.

        Raises:
            DataError: a number below 1.
        """
        check_size(count, length)
        trees = torch.randint(2**62, (count,), generator=generator).numpy().astype(np.uint64)
        draws = torch.rand(count, length, generator=generator, dtype=torch.float64).numpy()
        context = np.zeros(count, np.uint64)  # the last bit is the lowest
        tokens, truth = np.zeros((count, length), np.int64), np.zeros((count, length))
        for t in range(length):
            one = self._probability(trees, context)
            bit = draws[:, t] < one
            tokens[:, t] = bit
            truth[:, t] = np.log(np.where(bit, one, 1 - one))
            context = (context << np.uint64(1)) | bit.astype(np.uint64)
        whole = torch.from_numpy(tokens)
        return Sequences(whole, torch.ones_like(whole, dtype=torch.bool), torch.from_numpy(truth))

    def _probability(self, trees: np.ndarray, context: np.ndarray) -> np.ndarray:
        """Of a 1 in each tree after a context."""
        leaf = np.zeros(len(trees), np.uint64)
        inside = np.ones(len(trees), bool)
        for level in range(self.depth + 1):
            low = context & np.uint64((1 << level) - 1)
            node = _scrambled(trees ^ _scrambled(low + np.uint64(1 << level)))  # a context with a 1 before it is unique
            leaf = np.where(inside, node, leaf)
            inside = inside & (_uniform(node) < 0.5)
        return np.sin(math.pi / 2 * _uniform(_scrambled(leaf))) ** 2  # the arcsine law is Beta(1/2, 1/2)


def _scrambled(numbers: np.ndarray) -> np.ndarray:
    """SplitMix64's step: evenly spread 64-bit numbers from any different ones."""
    z = numbers + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _uniform(numbers: np.ndarray) -> np.ndarray:
    """In (0, 1), from the upper 53 bits."""
    return ((numbers >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
