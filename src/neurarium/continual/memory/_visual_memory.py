"""Classification by retrieval: the nearest of what is remembered vote, and say why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.continual.memory._item_table import Id
from neurarium.continual.memory._neighbour_memory import NeighbourMemory
from neurarium.probes.neighbours._neighbours import Vote, tally

Rerank = Callable[[Tensor, "Explanation"], int]


@dataclass(frozen=True)
class Explanation:
    """The neighbours that decided one prediction, nearest first.

    Args:
        label: the class predicted.
        ids: of the neighbours.
        labels: of the neighbours.
        distances: 1 - cosine.
        shares: of the vote; they add up to 1.
    """

    label: int
    ids: tuple[Id, ...]
    labels: tuple[int, ...]
    distances: tuple[float, ...]
    shares: tuple[float, ...]


class VisualMemory(NeighbourMemory):
    """Nearest neighbours among remembered embeddings vote on the class (Geirhos et al., 2024).

    Nothing is trained: the encoder is frozen (its parameters no longer require gradients), what is learned is what is
    in the memory. As a continual-learning strategy ``observe`` adds the batch, and there is nothing to forget. Any
    embedding will do, of text or sound as well.

    Args:
        encoder: module, function or `FrozenEncoder` from inputs to embeddings; None for inputs that are embeddings
            (they are flattened).
        k: neighbours that vote; 100 by default. Where the memory is smaller all of it votes.
        vote: ``"rank"`` (the paper's: 1 / (rank + alpha)), ``"plurality"``, ``"distance"`` or ``"softmax"``.
        alpha: of rank voting.
        temperature: of softmax voting.
        index: ``"exact"``, ``"ivf"`` or ``"hnsw"`` (both need faiss).
        effort: of an approximate index, see `ApproximateIndex`.
        path: folder of a memory on disk, made or opened; None keeps it in memory. See `VectorStore` for what a crash
            or another process can do to it: nothing.
        dtype: ``"float32"`` or ``"float16"`` for the stored vectors.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        encoder: nn.Module | Callable[[Any], Tensor] | None = None,
        *,
        k: int = 100,
        vote: str = "rank",
        alpha: float = 2.0,
        temperature: float = 0.07,
        index: str = "exact",
        effort: int | None = None,
        path: str | Path | None = None,
        dtype: str = "float32",
    ) -> None:
        super().__init__(encoder, index=index, effort=effort, path=path, dtype=dtype)
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        self.k, self.vote = k, Vote(vote, alpha, temperature)

    def classify(
        self,
        x: Any,
        k: int | None = None,
        *,
        at_all_k: bool = False,
        level: str | None = None,
        rerank: Rerank | None = None,
    ) -> Tensor:
        """The class of each input, [batch]; of equal scores the one that reached it first, as neighbours are added.

        Args:
            x: inputs of the encoder.
            k: neighbours that vote.
            at_all_k: the class for every number of neighbours from 1 to k, [batch, k].
            level: which labels vote; the ``y`` of `add` by default.
            rerank: ``rerank(embedding, explanation) -> label`` has the last word (a vision-language model, say).
        """  # fmt: skip
        if rerank is not None:
            reasons = self.explain(x, k, level=level)
            decided = [rerank(e, reason) for e, reason in zip(self.embed(x), reasons, strict=True)]
            return beside(x, torch.tensor(decided))
        winners = self._vote(x, k, level)[1]
        return winners if at_all_k else winners[:, -1]

    def scores(self, x: Any, k: int | None = None, level: str | None = None) -> Tensor:
        """Votes for each class, [batch, classes]."""
        return self._vote(x, k, level)[0]

    def predict(self, x: Any) -> Tensor:
        """Votes for each class, [batch, classes], the largest that of `classify` (a tie is broken by one ulp)."""
        scores, winners = self._vote(x, None, None)
        winner = winners[:, -1:].clamp_min(0)
        won = scores.gather(1, winner)
        return scores.scatter(1, winner, torch.nextafter(won, torch.full_like(won, torch.inf)))

    def confidence(self, x: Any, k: int = 10) -> Tensor:
        """Share of the ``k`` nearest neighbours that agree with their majority, [batch]."""
        queries = self.embed(x)
        with self.store.reading():
            found, rows = self.neighbours(queries, k)
            labels = self.store.labels[rows].masked_fill(found == -torch.inf, -1)
            scores, _ = tally(labels, torch.ones(labels.shape), int(self.store.labels.max()) + 1)
        return beside(x, (scores.max(1).values / scores.sum(1).clamp_min(1)).float())

    def explain(self, x: Any, k: int | None = None, level: str | None = None) -> list[Explanation]:
        """Which neighbours decided, and by how much."""
        queries = self.embed(x)
        result = []
        with self.store.reading():
            labels, weights, rows, found = self._votes(queries, k, level)
            winners = tally(labels, weights, int(labels.max()) + 1)[1][:, -1]
            shares = weights / weights.sum(1, keepdim=True).clamp_min(1e-12)
            for i in range(len(queries)):
                here = found[i] > -torch.inf
                names = self.store.ids(rows[i][here].tolist())
                result.append(
                    Explanation(
                        int(winners[i]), tuple(names), tuple(labels[i][here].tolist()),
                        tuple((1 - found[i][here]).tolist()), tuple(shares[i][here].tolist()),
                    )
                )  # fmt: skip
        return result

    def _vote(self, x: Any, k: int | None, level: str | None) -> tuple[Tensor, Tensor]:
        queries = self.embed(x)
        with self.store.reading():
            labels, weights, _, _ = self._votes(queries, k, level)
            classes = int((self.store.labels if level is None else self.store.levels[level]).max()) + 1
        scores, winners = tally(labels, weights, classes)
        return beside(x, scores), beside(x, winners)

    def _votes(self, queries: Tensor, k: int | None, level: str | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Labels, weights, rows and similarities of neighbours, each [queries, k]."""
        if k is not None and k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        found, rows = self.neighbours(queries, k or self.k)
        if level is not None and level not in self.store.levels:
            raise ValueError(f"no item has a label at level {level!r}; there are {sorted(self.store.levels)}")
        labels = self.store.labels if level is None else self.store.levels[level]
        whole, pruning = self.vote.weights(found), self.pruning_factors()[rows]
        silent = (whole * pruning).sum(1, keepdim=True) == 0  # pruning left no neighbour: they vote without it
        weights = whole * torch.where(silent, 1.0, pruning) * self.own_factors()[rows]
        return labels[rows].masked_fill(found == -torch.inf, -1), weights, rows, found


def beside(x: Any, result: Tensor) -> Tensor:
    """The result on the device that the inputs are on."""
    return result.to(x.device) if isinstance(x, Tensor) else result
