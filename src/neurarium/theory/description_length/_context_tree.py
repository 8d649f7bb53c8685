"""Context-tree weighting (Willems, Shtarkov and Tjalkens, 1995) over any alphabet, and the estimator in its nodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.special import expit
from torch import Tensor


@dataclass
class _Node:
    """Counts of what followed a context, and the log-odds that the symbols before it matter."""

    counts: np.ndarray
    odds: float = 0.0


class ContextTreeWeighting:
    """The Bayes mixture over all variable-order Markov sources up to a depth, one symbol after another.

    A node of the tree stands for the last few symbols. It branches with probability 1/2, or is a leaf, whose symbols
    have probabilities from Dirichlet(1/2, ..., 1/2): the Krichevsky-Trofimov estimator. All trees together take
    ``depth + 1`` nodes for each symbol. With two symbols it is exactly the mixture over what `ContextTreeSource`
    draws, so nothing predicts that better on average. Zeros stand before the first symbol.

    Each node keeps the log-odds of branching, to which a symbol adds log(P below / P of a leaf): exact, and never too
    large or too small for a float.

    Args:
        depth: symbols of the longest context.
        alphabet: number of symbols.

    Raises:
        ValueError: a negative depth, or fewer than 2 symbols.
    """

    def __init__(self, depth: int, alphabet: int = 2) -> None:
        if depth < 0 or alphabet < 2:
            raise ValueError(f"depth must not be negative and alphabet at least 2, not {depth} and {alphabet}")
        self.depth = depth
        self.alphabet = alphabet
        self.nodes: dict[tuple[int, ...], _Node] = {}
        self.history: deque[int] = deque([0] * depth, maxlen=depth)

    def predict(self) -> Float[Tensor, " alphabet"]:
        """Probabilities of the next symbol, given those that `update` has seen."""
        return torch.from_numpy(self._mixtures(self._path())[-1])

    def update(self, symbol: int) -> float:
        """See a symbol, learn from it, and give the probability that it had.

        Raises:
            ValueError: the symbol is not in the alphabet.
        """
        if not 0 <= symbol < self.alphabet:
            raise ValueError(f"symbol must be between 0 and {self.alphabet - 1}, not {symbol}")
        path = self._path()
        mixtures = self._mixtures(path)
        self.nodes |= path
        for node, below in zip(list(path.values())[1:], mixtures, strict=False):
            node.odds += float(np.log(below[symbol] / self._leaf(node)[symbol]))
        for node in path.values():
            node.counts[symbol] += 1
        self.history.append(symbol)
        return float(mixtures[-1][symbol])

    def log_prob(self, sequence: Iterable[int]) -> float:
        """The log-probability in nats of a whole sequence, from the beginning: what was seen before does not count.

        Raises:
            ValueError: a symbol is not in the alphabet.
        """
        tokens = torch.as_tensor([int(symbol) for symbol in sequence])[None]
        return float(self.log_probs(tokens).sum()) if tokens.numel() else 0.0

    def log_probs(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length"]:
        """Log-probabilities in nats of the symbols of many sequences, each from the beginning and by itself."""
        return self.conditionals(tokens).gather(2, tokens.long().cpu()[:, :, None])[:, :, 0].to(tokens.device)

    def conditionals(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length alphabet"]:
        """Log-probabilities of all symbols at every place of many sequences, computed side by side on the CPU.

        Raises:
            ValueError: ``tokens`` has another shape, or a symbol that is not in the alphabet.
        """
        if tokens.dim() != 2 or tokens.is_floating_point():
            raise ValueError(f"tokens must be whole numbers [batch, length], not {tuple(tokens.shape)}")
        whole = tokens.long().cpu().numpy()
        if whole.size and not 0 <= whole.min() <= whole.max() < self.alphabet:
            raise ValueError(f"tokens must be between 0 and {self.alphabet - 1}")
        batch, length = whole.shape
        nodes, number = self._numbered(whole)
        counts = np.full((number, self.alphabet), 0.5)
        odds = np.zeros(number)
        found = np.zeros((batch, length, self.alphabet))
        rows = np.arange(batch)
        for t in range(length):
            path, symbol = nodes[:, :, t], whole[:, t]
            leaves = counts[path] / counts[path].sum(2, keepdims=True)
            mixture = leaves[self.depth]
            for level in reversed(range(self.depth)):
                branch = expit(odds[path[level]])[:, None]
                gain = np.log(mixture[rows, symbol] / leaves[level][rows, symbol])
                mixture = branch * mixture + (1 - branch) * leaves[level]
                odds[path[level]] += gain
            counts[path, symbol] += 1
            found[:, t] = mixture
        return torch.from_numpy(np.log(found))

    def _numbered(self, tokens: np.ndarray) -> tuple[np.ndarray, int]:
        """A number for every (sequence, context): [depth + 1, batch, length], and how many there are."""
        batch, length = tokens.shape
        level = np.repeat(np.arange(batch), length).reshape(batch, length)  # the root of each sequence
        padded = np.concatenate([np.zeros((batch, self.depth), np.int64), tokens], 1)
        found, total = [level], batch
        for back in range(1, self.depth + 1):
            code = found[-1] * self.alphabet + padded[:, self.depth - back : self.depth - back + length]
            names, inverse = np.unique(code, return_inverse=True)
            found.append(inverse.reshape(batch, length) + total)
            total += len(names)
        return np.stack(found), total

    def _path(self) -> dict[tuple[int, ...], _Node]:
        """The nodes of the present context, the longest first; new ones are not yet kept."""
        context = tuple(self.history)
        names = [context[len(context) - size :] for size in range(self.depth, -1, -1)]
        return {name: self.nodes.get(name) or _Node(np.full(self.alphabet, 0.5)) for name in names}

    def _mixtures(self, path: dict[tuple[int, ...], _Node]) -> list[np.ndarray]:
        """Probabilities of the next symbol at each node of a path."""
        found: list[np.ndarray] = []
        for node in path.values():
            leaf = self._leaf(node)
            branch = expit(node.odds)
            found.append(branch * found[-1] + (1 - branch) * leaf if found else leaf)
        return found

    @staticmethod
    def _leaf(node: _Node) -> np.ndarray:
        """The estimator of Krichevsky and Trofimov."""
        return node.counts / node.counts.sum()


class KT(ContextTreeWeighting):
    """The Krichevsky-Trofimov estimator: (count + 1/2) / (total + alphabet / 2), Bayes for independent symbols.

    Args:
        alphabet: number of symbols.
    """

    def __init__(self, alphabet: int = 2) -> None:
        super().__init__(0, alphabet)
