"""Remembered embeddings that can be added, removed, hidden, weighted and searched."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.continual._strategy import Strategy
from neurarium.continual.memory._approximate_index import ApproximateIndex
from neurarium.continual.memory._item_table import Id, plain
from neurarium.continual.memory._vector_store import VectorStore
from neurarium.models import FrozenEncoder
from neurarium.probes.neighbours._neighbours import nearest, unit

_QUERIES = 512


class NeighbourMemory(Strategy):
    """What is remembered, which items are near a query, and how much each counts. What they decide is `VisualMemory`'s.

    Threads may share one. The arguments are those of `VisualMemory`.
    """

    def __init__(
        self,
        encoder: nn.Module | Callable[[Any], Tensor] | None = None,
        *,
        index: str = "exact",
        effort: int | None = None,
        path: str | Path | None = None,
        dtype: str = "float32",
    ) -> None:
        super().__init__(encoder if isinstance(encoder, FrozenEncoder) else FrozenEncoder(encoder))
        self.index = None if index == "exact" else ApproximateIndex(index, effort)
        self.store = VectorStore(path=path, dtype=dtype)
        self.blocked: set[Id] = set()
        self.factors: dict[Id, float] = {}
        self.pruning: tuple[str, int, int] | None = None
        self._pruned: tuple[tuple[int, int], Tensor] | None = None  # version of the store, factor of each row
        self._said_small = False
        self._recall(self.store.note)

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
        return self.store.add(self.embed(x), y.cpu(), ids, {n: v.cpu() for n, v in (levels or {}).items()})

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
        with self.store.lock:
            rows = self._chosen(ids, labels, where)
            for name in self.store.ids(rows.tolist()):
                self.blocked.discard(name)
                self.factors.pop(name, None)
            self.store.remove(rows)
            if self.index is not None:
                self.index.remove(rows)
            self._note()
        return len(rows)

    def _chosen(
        self, ids: Iterable[Id] | None, labels: Iterable[int] | None, where: Callable[[Id, int], bool] | None
    ) -> Tensor:
        chosen = []
        with self.store.reading():
            there = (~self.store.removed).nonzero().flatten()
            if ids is not None:
                chosen.append(self.store.rows(ids).unique())
            if labels is not None:
                chosen.append(there[torch.isin(self.store.labels[there], torch.tensor(list(labels)))])
            if where is not None:
                pairs = zip(self.store.ids(there.tolist()), self.store.labels[there].tolist(), strict=True)
                chosen.append(there[torch.tensor([where(name, label) for name, label in pairs], dtype=torch.bool)])
        if len(chosen) != 1:
            raise ValueError("say what to remove by exactly one of ids, labels and where")
        return chosen[0]

    # Editing decisions

    def block(self, ids: Iterable[Id]) -> None:
        """Leave items out of every retrieval, as if they were not there, until `reset`."""
        names = list(ids)
        with self.store.lock:
            self.store.rows(names)
            self.blocked.update(plain(name) for name in names)
            self._note()

    def reweight(self, ids: Iterable[Id], factor: float) -> None:
        """Multiply the votes of items until `reset`.

        Raises:
            ValueError: a negative factor or an unknown id.
        """
        if not 0 <= factor < float("inf"):
            raise ValueError(f"factor must be finite and not negative, not {factor}")
        names = list(ids)
        with self.store.lock:
            self.store.rows(names)
            self.factors.update({plain(name): factor for name in names})
            self._note()

    def relabel(self, name: Id, label: int) -> None:
        """Give one item another class."""
        with self.store.lock:
            self.store.relabel(int(self.store.rows([name])), label)

    def reset(self) -> None:
        """Undo `block` and `reweight`."""
        with self.store.lock:
            self.blocked.clear()
            self.factors.clear()
            self._note()

    # Pruning

    def reliability(self, k: int = 10) -> Tensor:
        """How often each row was among the ``k`` nearest of another item with another label, [rows].

        By leave-one-out retrieval on the memory itself (section 3.3).
        """
        with self.store.reading():
            labels = self.store.labels
            wrong = torch.zeros(len(labels), dtype=torch.int64)
            there = (~self.store.removed).nonzero().flatten()
            for rows in there.split(_QUERIES):
                _, found = self._retrieve(self.store.vectors[rows].float(), min(k + 1, len(there)), self.store.removed)
                own = found == rows[:, None]
                own[~own.any(1), -1] = True  # an exact copy of the item may have taken its place
                others = found[~own].reshape(len(rows), -1)
                wrong += torch.bincount(others[labels[others] != labels[rows][:, None]], minlength=len(wrong))
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
        with self.store.lock:
            self.pruning, self._pruned = (kind, k or {"soft": 10, "hard": 100}[kind], threshold), None
            self._note()
        with self.store.reading():
            return self.row_factors()

    def unprune(self) -> None:
        """Undo `prune`."""
        with self.store.lock:
            self.pruning, self._pruned = None, None
            self._note()

    # Searching

    def save(self, path: str | Path) -> None:
        """Write the memory with its blocks, weights and pruning into a new folder, for ``VisualMemory(path=...)``."""
        self.store.copy_to(path)

    def embed(self, x: Any) -> Tensor:
        """Unit vectors [batch, features] of the inputs.

        Raises:
            ValueError: an embedding is zero or not finite.
        """
        return unit(self.model(x).cpu(), "the embeddings")

    def neighbours(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Cosines [queries, k] of the nearest rows and the rows, nearest first; -inf where there were fewer.

        Raises:
            ValueError: the memory is empty, every item is blocked, or embeddings have another size.

        Warns:
            UserWarning: ``k`` is more than there are items (once).
        """
        with self.store.reading():
            if len(self) == 0:
                raise ValueError("the memory is empty: add items before asking")
            if queries.shape[1] != self.store.features:
                have, want = queries.shape[1], self.store.features
                raise ValueError(f"embeddings have {have} features, those remembered {want}")
            if k > len(self) and not self._said_small:
                self._said_small = True
                warnings.warn(f"k is {k} but the memory holds {len(self)} items: all of them vote", stacklevel=5)
            hidden = self.store.removed.clone()
            hidden[list(self.store.find(self.blocked).values())] = True
            if bool(hidden.all()):
                raise ValueError("every item is blocked: call reset() before asking")
            hard = self.pruning is not None and self.pruning[0] == "hard"
            left_out = hidden | (self.row_factors() == 0) if hard else hidden
            return self._retrieve(queries, min(k, len(self)), hidden if bool(left_out.all()) else left_out)

    def _retrieve(self, queries: Tensor, k: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
        if self.index is None:
            parts = [nearest(part, self.store.vectors, k, hidden) for part in queries.split(_QUERIES)]
            return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
        if self.index.outgrown(len(self.store.labels)):
            self.index.clear()
        if self.index.rows < len(self.store.labels):
            self.index.add(self.store.vectors[self.index.rows :])
            self.index.remove(self.store.removed.nonzero().flatten())
        found, rows = self.index.search(queries, k, hidden)
        there = min(k, int((~hidden).sum()))
        short = ((found > -torch.inf).sum(1) < there).nonzero().flatten()
        for part in short.split(_QUERIES):  # what was visited is too empty, after much was forgotten or hidden
            found[part], rows[part] = nearest(queries[part], self.store.vectors, k, hidden)
        return found, rows

    def row_factors(self) -> Tensor:
        """What the vote of each row is multiplied by, [rows]: its factor of pruning times that of `reweight`."""
        with self.store.reading():
            return self.pruning_factors() * self.own_factors()

    def pruning_factors(self) -> Tensor:
        """What pruning leaves of the vote of each row, [rows]; ones without it."""
        with self.store.reading():
            if self._pruned is None or self._pruned[0] != self.store.version:
                factors = torch.ones(len(self.store.labels), dtype=torch.float64)
                if self.pruning is not None:
                    kind, k, threshold = self.pruning
                    wrong = self.reliability(k)
                    soft = torch.where(wrong > 0, 1.75 / (1 + wrong.double()), factors)
                    factors = soft if kind == "soft" else (wrong < threshold).double()
                self._pruned = self.store.version, factors
            return self._pruned[1]

    def own_factors(self) -> Tensor:
        """The factors that `reweight` gave, [rows]; ones elsewhere."""
        with self.store.reading():
            factors = torch.ones(len(self.store.labels), dtype=torch.float64)
            for name, row in self.store.find(self.factors).items():
                factors[row] = self.factors[name]
            return factors

    def get_extra_state(self) -> dict[str, Any]:
        """Everything remembered, for ``state_dict``."""
        with self.store.reading():
            there = (~self.store.removed).nonzero().flatten()
            return {
                "vectors": self.store.vectors[there].clone(),
                "labels": self.store.labels[there],
                "ids": self.store.ids(there.tolist()),
                "levels": {name: values[there] for name, values in self.store.levels.items()},
                "decisions": self._decisions(),
            }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Replace the memory by what `get_extra_state` gave."""
        if len(self.store):
            self.remove(where=lambda name, label: True)
        if len(state["vectors"]):
            self.store.add(state["vectors"], state["labels"], state["ids"], state["levels"])
        self._recall(state.get("decisions"))
        self._note()

    # What was decided, beside what is remembered

    def _decisions(self) -> str:
        """Blocks, weights and pruning as text; nothing where there are none."""
        if not (self.blocked or self.factors or self.pruning):
            return ""
        blocked = sorted(self.blocked, key=lambda name: (isinstance(name, str), name))
        return json.dumps({"blocked": blocked, "factors": list(self.factors.items()), "pruning": self.pruning})

    def _recall(self, decisions: str | None) -> None:
        found = json.loads(decisions) if decisions else {"blocked": [], "factors": [], "pruning": None}
        self.blocked, self.factors = set(found["blocked"]), dict(found["factors"])
        self.pruning = None if found["pruning"] is None else tuple(found["pruning"])
        self._pruned = None

    def _note(self) -> None:
        self.store.set_note(self._decisions())
