"""Associative memory with Hebbian couplings of any even order, stored or learned with and without a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.data._uniform_sample import sample_slots
from neurarium.learning.hebbian._glauber import glauber
from neurarium.learning.hebbian._many_body import ManyBody

MAX_BYTES = 8 * 2**30
MODES = ("empty", "stored", "supervised", "unsupervised")


class HebbianMemory(nn.Module):
    """Memory with the energy ``E = -(N / P) / c * sum_mu x_mu^P``, ``x_mu = (1/N) sum_i row_i^mu spin_i``.

    P = 2 is Hopfield's network; with blank (0) entries it holds several patterns in one state (Agliari et al.,
    arXiv 2308.04106). P > 2 is the dense network (arXiv 2212.00606 with a teacher, 2211.14067 without). The rows are

    - the patterns themselves after `store`;
    - the mean example of each class after ``learn(examples, labels)`` (supervised; running sums, so the order and the
      grouping of the examples do not matter; the row of a class without examples is zero and counts for nothing);
    - every example by itself, with the weight 1 / (examples per pattern), after ``learn(examples)`` (unsupervised).

    A memory is filled in one of these ways; `reset` empties it. Fields go through overlaps, O(rows x neurons) a sweep;
    no coupling tensor is formed. The self-coupling is removed exactly: a flip of spin i costs ``2 spin_i field_i``.

    Args:
        num_neurons: N.
        order: P, even, at least 2.
        contact: ``"all"``, the plain power, in which indices may coincide, or ``"distinct"``, the sum over different
            indices only. The dynamics of P = 2 are the same for both.
        quality: r in (0, 1], the correlation of an example's entry with its pattern's; sets the unit of temperature.
        normalization: c is ``r^P`` for ``"signal"``, so that fields of a retrieved pattern are those of the stored one;
            for ``"entropy"`` it is ``(r^2 (1 + rho))^(P/2)`` with a teacher, rho = (1 - r^2) / (M r^2), and
            ``r^P sqrt(1 + rho_P)`` without, rho_P = (1 - r^2P) / (M r^2P), for M examples per pattern (their mean).
        num_patterns: how many patterns unlabelled examples stand for, which sets M there (unit of temperature only);
            by default all examples count as M of one pattern. Ignored with labels.
        center: subtract the mean of all examples from every row: for correlated classes, such as images.
        capacity: at most so many unlabelled examples are kept, a uniform sample of all seen.
        device: of the buffers.
        dtype: of the buffers; whole sums are exact up to 2^24 in float32, 2^53 in float64.

    Raises:
        ValueError: an argument is out of its range.
    """

    rows: Tensor
    counts: Tensor
    total: Tensor
    seen: Tensor
    mode_index: Tensor  # into MODES; a buffer, so that it is saved

    def __init__(
        self,
        num_neurons: int,
        order: int = 2,
        *,
        contact: str = "all",
        quality: float = 1.0,
        normalization: str = "signal",
        num_patterns: int | None = None,
        center: bool = False,
        capacity: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if num_neurons < 2:
            raise ValueError(f"num_neurons must be at least 2, not {num_neurons}")
        if order < 2 or order % 2:
            raise ValueError(f"order must be even and at least 2, not {order}")
        if contact not in ("all", "distinct"):
            raise ValueError(f"contact must be 'all' or 'distinct', not {contact!r}")
        if normalization not in ("signal", "entropy"):
            raise ValueError(f"normalization must be 'signal' or 'entropy', not {normalization!r}")
        if not 0 < quality <= 1:
            raise ValueError(f"quality must lie in (0, 1], not {quality}")
        if capacity is not None and capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {capacity}")
        self.num_neurons, self.order, self.contact = num_neurons, order, contact
        self.quality = quality
        self.normalization = normalization
        self.num_patterns = num_patterns
        self.center = center
        self.capacity = capacity
        self.register_buffer("rows", torch.zeros(0, num_neurons, device=device, dtype=dtype))
        self.register_buffer("counts", torch.zeros(0, dtype=torch.long, device=device))
        self.register_buffer("total", torch.zeros(num_neurons, device=device, dtype=dtype))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long, device=device))
        self.register_buffer("mode_index", torch.zeros((), dtype=torch.long, device=device))
        self._coupling: ManyBody | None = None

    @property
    def mode(self) -> str:
        """``"empty"``, ``"stored"``, ``"supervised"`` or ``"unsupervised"``."""
        return MODES[int(self.mode_index)]

    @property
    def num_rows(self) -> int:
        """Patterns, classes or examples held."""
        return len(self.rows)

    def reset(self) -> HebbianMemory:
        """Forget everything."""
        self.rows, self.counts = self.rows[:0], self.counts[:0]
        self.total = torch.zeros_like(self.total)
        self.seen, self.mode_index = torch.zeros_like(self.seen), torch.zeros_like(self.mode_index)
        self._coupling = None
        return self

    @torch.no_grad()
    def store(self, patterns: Tensor) -> HebbianMemory:
        """Add patterns ``[num_patterns, num_neurons]`` of -1, 0 (blank) and +1.

        Raises:
            ValueError: an entry is none of these, a pattern is blank everywhere, or the memory learned from examples.
        """
        patterns = self._checked(patterns, "patterns")
        if bool((patterns == 0).all(1).any()):
            raise ValueError("a pattern is blank in every entry; there is nothing to store")
        self._enter("stored")
        self._append(patterns)
        return self

    @torch.no_grad()
    def learn(
        self, examples: Tensor, labels: Tensor | None = None, generator: torch.Generator | None = None
    ) -> HebbianMemory:
        """Learn from examples, with a teacher if there are labels; can be called again with more examples.

        Args:
            examples: ``[num_examples, num_neurons]``, or ``[num_patterns, examples_each, num_neurons]``, of -1, 0, +1.
            labels: class index from 0 of each example, ``[num_examples]`` or ``[num_patterns, examples_each]``; None to
                learn without a teacher.
            generator: draws which examples stay when there are more than ``capacity``.

        Raises:
            ValueError: an entry is not -1, 0 or +1, labels do not fit, the memory was filled in another way, or the
                rows would not fit in memory.
        """
        flat = self._checked(examples.flatten(0, -2), "examples")
        if labels is None:
            return self._sample(flat, generator)
        labels = labels.flatten().to(self.rows.device)
        if not labels.is_floating_point():
            labels = labels.long()
        if len(labels) != len(flat):
            raise ValueError(f"there are {len(flat)} examples but {len(labels)} labels")
        if labels.is_floating_point() or (len(labels) and int(labels.min()) < 0):
            raise ValueError("labels must be class indices: whole numbers from 0")
        self._enter("supervised")
        classes = max(self.num_rows, int(labels.max()) + 1) if len(labels) else self.num_rows
        self._room_for(classes)
        sums = self.rows.new_zeros(classes, self.num_neurons)
        sums[: self.num_rows] = self.rows
        counts = self.counts.new_zeros(classes)
        counts[: self.num_rows] = self.counts
        self.rows = sums.index_add_(0, labels, flat)  # sums, so that whole numbers stay whole whatever the order
        self.counts = counts.index_add_(0, labels, torch.ones_like(labels))
        self.total = self.total + flat.sum(0)
        self.seen = self.seen + len(flat)
        return self

    def effective_rows(self) -> Tensor:
        """The rows that enter the energy, ``[num_rows, num_neurons]``: patterns, class means or examples."""
        rows = self.rows
        if self.mode == "supervised":
            rows = rows / self.counts.clamp_min(1).unsqueeze(1)
        if self.center and self.mode != "empty":
            rows = rows - self.total / self.seen
        return rows * (self.counts > 0).unsqueeze(1) if self.mode == "supervised" else rows

    def coupling(self) -> ManyBody:
        """The energy function of what is held now.

        Raises:
            ValueError: the memory is empty.
        """
        if self.mode == "empty" or not self.num_rows:
            raise ValueError("the memory is empty: call store(patterns) or learn(examples) first")
        if self._coupling is None:
            denominator = self.order * float(self.num_neurons) ** (self.order - 1) * self._norm()
            self._coupling = ManyBody(self.effective_rows(), self.order, self.contact == "distinct", denominator)
        return self._coupling

    @torch.no_grad()
    def energy(self, state: Tensor) -> Tensor:
        """Energy of each state, ``[..., num_neurons] -> [...]``."""
        spins, shape = self._spins(state)
        coupling = self.coupling()
        return coupling.energy(coupling.sums(spins)).reshape(shape[:-1])

    @torch.no_grad()
    def field(self, state: Tensor) -> Tensor:
        """Exact local fields without self-coupling, ``[..., num_neurons]``: a flip of spin i costs 2 spin_i field_i."""
        spins, shape = self._spins(state)
        coupling = self.coupling()
        return coupling.field(coupling.sums(spins), spins).reshape(shape)

    @torch.no_grad()
    def overlaps(self, state: Tensor) -> Tensor:
        """Overlaps ``(1/N) sum_i row_i spin_i`` with every row, ``[..., num_rows]``."""
        spins, shape = self._spins(state)
        return (spins @ self.coupling().rows.T / self.num_neurons).reshape(*shape[:-1], -1)

    def relax(
        self,
        state: Tensor,
        temperature: float | Sequence[float] = 0.0,
        sweeps: int = 40,
        generator: torch.Generator | None = None,
        block_size: int | None = None,
        frozen: Tensor | None = None,
    ) -> Tensor:
        """Run Glauber dynamics from ``state`` ``[..., num_neurons]``; see `glauber` for the arguments."""
        spins = self._spins(state)[0].reshape(state.shape)
        return glauber(self.coupling(), spins, temperature, sweeps, block_size, generator, frozen)

    def forward(self, state: Tensor) -> Tensor:
        """The nearest stable state: `relax` at temperature 0 with its defaults."""
        return self.relax(state)

    def _norm(self) -> float:
        """c, times the examples per pattern where each example is a row."""
        r2 = self.quality**2
        examples = 1.0
        if self.mode == "supervised":
            examples = float(self.seen) / int((self.counts > 0).sum())
        elif self.mode == "unsupervised":
            examples = self.num_rows / (self.num_patterns or 1)
        scale = self.quality**self.order
        if self.normalization == "entropy" and self.mode == "supervised":
            scale = (r2 + (1 - r2) / examples) ** (self.order / 2)
        elif self.normalization == "entropy" and self.mode == "unsupervised":
            scale = (r2**self.order + (1 - r2**self.order) / examples) ** 0.5
        return scale * (examples if self.mode == "unsupervised" else 1.0)

    def _checked(self, values: Tensor, name: str) -> Tensor:
        if values.dim() != 2 or values.shape[1] != self.num_neurons:
            raise ValueError(f"{name} must have {self.num_neurons} entries each, got shape {tuple(values.shape)}")
        values = values.to(self.rows)
        if bool(((values != 0) & (values.abs() != 1)).any()):
            raise ValueError(f"entries of {name} must be -1, 0 or +1")
        return values

    def _spins(self, state: Tensor) -> tuple[Tensor, torch.Size]:
        if state.shape[-1:] != (self.num_neurons,):
            raise ValueError(f"state must end in {self.num_neurons} spins, got shape {tuple(state.shape)}")
        spins = state.to(self.rows).reshape(-1, self.num_neurons)
        if bool((spins.abs() != 1).any()):
            raise ValueError("state must hold spins of -1 and +1")
        return spins, state.shape

    def _enter(self, mode: str) -> None:
        if self.mode not in ("empty", mode):
            raise ValueError(f"this memory is {self.mode} and cannot become {mode}; call reset() first")
        self.mode_index = torch.full_like(self.mode_index, MODES.index(mode))
        self._coupling = None

    def _room_for(self, rows: int) -> None:
        size = rows * self.num_neurons * self.rows.element_size()
        if size > MAX_BYTES:
            raise ValueError(
                f"{rows} rows of {self.num_neurons} need {size / 2**30:.1f} GiB; set capacity or give labels"
            )

    def _append(self, rows: Tensor) -> None:
        self._room_for(self.num_rows + len(rows))
        self.rows = torch.cat([self.rows, rows])
        self.counts = torch.ones(self.num_rows, dtype=torch.long, device=self.rows.device)
        self.total = self.total + rows.sum(0)
        self.seen = self.seen + len(rows)

    def _sample(self, examples: Tensor, generator: torch.Generator | None) -> HebbianMemory:
        self._enter("unsupervised")
        room = len(examples) if self.capacity is None else max(0, self.capacity - self.num_rows)
        late, before = examples[room:], int(self.seen) + len(examples[:room])
        self._append(examples[:room])
        if len(late):
            slots = sample_slots(len(late), before, self.num_rows, generator)
            last = {slot: row for row, slot in enumerate(slots.tolist()) if slot >= 0}
            self.rows = self.rows.clone()
            self.rows[list(last)] = late[list(last.values())]
            self.total, self.seen = self.total + late.sum(0), self.seen + len(late)
        return self

    def _apply(self, *args: Any, **kwargs: Any) -> HebbianMemory:
        self._coupling = None  # moved to another device or dtype
        super()._apply(*args, **kwargs)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in ("rows", "counts"):  # their length is part of the state
            if prefix + name in state_dict:
                buffer = getattr(self, name)
                setattr(self, name, buffer.new_empty(state_dict[prefix + name].shape))
        self._coupling = None
        super()._load_from_state_dict(state_dict, prefix, *args)
