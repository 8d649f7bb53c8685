"""Classification by retrieval: a frozen encoder and a memory that can be added to, removed from, pruned and edited."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.continual.approximate_index import ApproximateIndex
from neurarium.continual.strategy import Strategy
from neurarium.continual.vector_store import Id, VectorStore
from neurarium.models import FrozenEncoder
from neurarium.probes.neighbours import Vote, nearest, tally, unit

Rerank = Callable[[Tensor, "Explanation"], int]
_QUERIES = 512


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


class VisualMemory(Strategy):
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
        super().__init__(encoder if isinstance(encoder, FrozenEncoder) else FrozenEncoder(encoder))
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        self.k, self.vote = k, Vote(vote, alpha, temperature)
        self.index = None if index == "exact" else ApproximateIndex(index, effort)
        self.store = VectorStore(path=path, dtype=dtype)
        self.blocked: set[Id] = set()
        self.factors: dict[Id, float] = {}
        self.pruning: tuple[str, int, int] | None = None
        self._pruned: Tensor | None = None
        self._said_small = False

    def __len__(self) -> int:
        """Items in the memory."""
        return len(self.store)

    # What is in the memory

    def add(
        self,
        x: Any,
        y: Tensor,
        ids: Sequence[Id] | None = None,
        levels: dict[str, Tensor] | None = None,
    ) -> list[Id]:
        """Remember items; returns their ids.

        Args:
            x: inputs of the encoder.
            y: class of each, integers [items].
            ids: unique names, integers or text; consecutive integers by default.
            levels: further labels of the same items by name ("coarse", ...), so that one memory answers at several
                granularities.

        Raises:
            ValueError: an id is there already; an embedding is zero or not finite; sizes do not fit. Nothing is added.
        """
        names = self.store.add(self.embed(x), y.cpu(), ids, {n: v.cpu() for n, v in (levels or {}).items()})
        self._pruned = None
        return names

    def observe(self, x: Any, y: Tensor) -> None:
        """Remember a batch."""
        self.add(x, y)

    def remove(
        self,
        ids: Iterable[Id] | None = None,
        *,
        labels: Iterable[int] | None = None,
        where: Callable[[Id, int], bool] | None = None,
    ) -> int:
        """Forget items by id, by class, or where ``where(id, label)`` is true; returns how many.

        The memory then answers as if they had never been added; reliabilities are counted anew without them.

        Raises:
            ValueError: not exactly one of the three was given, or an id is unknown.
        """
        if sum(given is not None for given in (ids, labels, where)) != 1:
            raise ValueError("say what to remove by exactly one of ids, labels and where")
        self.store.refresh()
        there = (~self.store.removed).nonzero().flatten()
        if ids is not None:
            rows = self.store.rows(ids).unique()
        elif labels is not None:
            rows = there[torch.isin(self.store.labels[there], torch.tensor(list(labels)))]
        else:
            names = self.store.ids(there.tolist())
            chosen = [where(n, int(v)) for n, v in zip(names, self.store.labels[there], strict=True)]  # type: ignore[misc]
            rows = there[torch.tensor(chosen, dtype=torch.bool)]
        for name in self.store.ids(rows.tolist()):
            self.blocked.discard(name)
            self.factors.pop(name, None)
        self.store.remove(rows)
        if self.index is not None:
            self.index.remove(rows)
        self._pruned = None
        return len(rows)

    # Editing decisions

    def block(self, ids: Iterable[Id]) -> None:
        """Leave items out of every retrieval, as if they were not there, until `reset`."""
        names = list(ids)
        self.store.rows(names)
        self.blocked.update(names)

    def reweight(self, ids: Iterable[Id], factor: float) -> None:
        """Multiply the votes of items until `reset`.

        Raises:
            ValueError: a negative factor or an unknown id.
        """
        if not 0 <= factor < float("inf"):
            raise ValueError(f"factor must be finite and not negative, not {factor}")
        names = list(ids)
        self.store.rows(names)
        self.factors.update(dict.fromkeys(names, factor))

    def relabel(self, name: Id, label: int) -> None:
        """Give one item another class."""
        self.store.relabel(int(self.store.rows([name])), label)
        self._pruned = None

    def reset(self) -> None:
        """Undo `block` and `reweight`."""
        self.blocked.clear()
        self.factors.clear()

    # Pruning

    def reliability(self, k: int = 10) -> Tensor:
        """How often each row was among the ``k`` nearest of another item with another label, [rows].

        By leave-one-out retrieval on the memory itself (section 3.3).
        """
        self.store.refresh()
        wrong = torch.zeros(len(self.store.labels), dtype=torch.int64)
        there = (~self.store.removed).nonzero().flatten()
        for rows in there.split(_QUERIES):
            _, found = self._retrieve(self.store.vectors[rows].float(), min(k + 1, len(there)), self.store.removed)
            own = found == rows[:, None]
            own[~own.any(1), -1] = True  # an exact copy of the item may have taken its place
            others = found[~own].reshape(len(rows), -1)
            differs = self.store.labels[others] != self.store.labels[rows][:, None]
            wrong += torch.bincount(others[differs], minlength=len(wrong))
        return wrong

    def prune(self, kind: str = "soft", k: int | None = None, threshold: int = 128) -> Tensor:
        """Let unreliable items count less, or not at all, until `unprune`; counted anew when the memory changes.

        Args:
            kind: ``"soft"``: the vote of an item that was wrong w > 0 times is multiplied by 1.75 / (1 + w);
                ``"hard"``: items that were wrong ``threshold`` times or more are left out and ranks are counted over
                the rest (unless that would leave nothing).
            k: neighbours for the count; 10 for soft and 100 for hard pruning by default.
            threshold: of hard pruning.

        Returns:
            The factor of each row.
        """
        if kind not in ("soft", "hard"):
            raise ValueError(f"kind must be soft or hard, not {kind!r}")
        self.pruning = (kind, k or {"soft": 10, "hard": 100}[kind], threshold)
        self._pruned = None
        return self._row_factors()

    def unprune(self) -> None:
        """Undo `prune`."""
        self.pruning, self._pruned = None, None

    # Answers

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
            return torch.tensor([rerank(e, reason) for e, reason in zip(self.embed(x), reasons, strict=True)])
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
        found, rows = self._neighbours(self.embed(x), k)
        labels = self.store.labels[rows].masked_fill(found == -torch.inf, -1)
        scores, _ = tally(labels, torch.ones(labels.shape), int(self.store.labels.max()) + 1)
        return (scores.max(1).values / scores.sum(1).clamp_min(1)).float()

    def explain(self, x: Any, k: int | None = None, level: str | None = None) -> list[Explanation]:
        """Which neighbours decided, and by how much."""
        embeddings = self.embed(x)
        labels, weights, rows, found = self._votes(embeddings, k, level)
        winners = tally(labels, weights, int(labels.max()) + 1)[1][:, -1]
        shares = weights / weights.sum(1, keepdim=True)
        result = []
        for i in range(len(embeddings)):
            here = found[i] > -torch.inf
            names = self.store.ids(rows[i][here].tolist())
            result.append(
                Explanation(
                    int(winners[i]), tuple(names), tuple(labels[i][here].tolist()),
                    tuple((1 - found[i][here]).tolist()), tuple(shares[i][here].tolist()),
                )
            )  # fmt: skip
        return result

    def save(self, path: str | Path) -> None:
        """Write the memory into a new folder, which ``VisualMemory(path=...)`` opens."""
        self.store.copy_to(path)

    def embed(self, x: Any) -> Tensor:
        """Unit vectors [batch, features] of the inputs.

        Raises:
            ValueError: an embedding is zero or not finite.
        """
        return unit(self.model(x).cpu(), "the embeddings")

    def _vote(self, x: Any, k: int | None, level: str | None) -> tuple[Tensor, Tensor]:
        labels, weights, _, _ = self._votes(self.embed(x), k, level)
        classes = int((self.store.labels if level is None else self.store.levels[level]).max()) + 1
        return tally(labels, weights, classes)

    def _votes(self, queries: Tensor, k: int | None, level: str | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Labels, weights, rows and similarities of neighbours, each [queries, k]."""
        found, rows = self._neighbours(queries, k or self.k)
        if level is not None and level not in self.store.levels:
            raise ValueError(f"no item has a label at level {level!r}; there are {sorted(self.store.levels)}")
        labels = self.store.labels if level is None else self.store.levels[level]
        weights = self.vote.weights(found) * self._row_factors()[rows]
        return labels[rows].masked_fill(found == -torch.inf, -1), weights, rows, found

    def _neighbours(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        self.store.refresh()
        if len(self.store) == 0:
            raise ValueError("the memory is empty: add items before asking")
        if queries.shape[1] != self.store.features:
            raise ValueError(f"embeddings have {queries.shape[1]} features, those remembered {self.store.features}")
        if k > len(self.store) and not self._said_small:
            self._said_small = True
            warnings.warn(f"k is {k} but the memory holds {len(self.store)} items: all of them vote", stacklevel=4)
        k = min(k, len(self.store))
        hidden = self.store.removed.clone()
        hidden[self.store.rows(self.blocked)] = True
        left_out = hidden | (self._row_factors() == 0) if self.pruning and self.pruning[0] == "hard" else hidden
        found, rows = self._retrieve(queries, k, hidden if bool(left_out.all()) else left_out)
        return found, rows

    def _retrieve(self, queries: Tensor, k: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
        if self.index is None:
            parts = [nearest(part, self.store.vectors, k, hidden) for part in queries.split(_QUERIES)]
            return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
        if self.index.rows < len(self.store.labels):
            self.index.add(self.store.vectors[self.index.rows :])
            self.index.remove(self.store.removed.nonzero().flatten())
        return self.index.search(queries, k, hidden)

    def _row_factors(self) -> Tensor:
        """What the vote of each row is multiplied by."""
        if self._pruned is None or len(self._pruned) != len(self.store.labels):
            factors = torch.ones(len(self.store.labels), dtype=torch.float64)
            if self.pruning is not None:
                kind, k, threshold = self.pruning
                wrong = self.reliability(k)
                soft = torch.where(wrong > 0, 1.75 / (1 + wrong.double()), factors)
                factors = soft if kind == "soft" else (wrong < threshold).double()
            self._pruned = factors
        if not self.factors:
            return self._pruned
        factors = self._pruned.clone()
        factors[self.store.rows(self.factors)] *= torch.tensor(list(self.factors.values()), dtype=torch.float64)
        return factors

    def get_extra_state(self) -> dict[str, Any]:
        """Everything remembered, for ``state_dict``."""
        there = (~self.store.removed).nonzero().flatten()
        return {
            "vectors": self.store.vectors[there].clone(), "labels": self.store.labels[there],
            "ids": self.store.ids(there.tolist()), "levels": {n: v[there] for n, v in self.store.levels.items()},
        }  # fmt: skip

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Replace the memory by what `get_extra_state` gave."""
        if len(self.store):
            self.remove(where=lambda name, label: True)
        if len(state["vectors"]):
            self.store.add(state["vectors"], state["labels"], state["ids"], state["levels"])
        self._pruned = None
