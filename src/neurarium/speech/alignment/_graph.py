"""The automaton whose walks are the alignments of a target, for a batch of utterances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class AlignmentGraph:
    """A batch of left-to-right (or any other) automata whose states emit labels.

    Two walks are two alignments even where they emit the same labels, so build graphs in which a label string has one
    walk (all builders in `neurarium.speech` do, except for equal neighbours in graphs without a blank).

    Args:
        emit: label that each state emits; states that only pad the batch may hold any label.
        offsets: differences target - source of state numbers for which there are arcs.
        weight: weight[i, b, s] is the log-weight of the arc from state s - offsets[i] to s; -inf for no arc. May
            require grad: `full_sum` is differentiable in it.
        start: log-weight of beginning in a state, -inf where that is not allowed.
        final: log-weight of ending in a state, -inf where that is not allowed.
    """

    emit: Int[Tensor, "batch states"]
    offsets: tuple[int, ...]
    weight: Float[Tensor, "bands batch states"]
    start: Float[Tensor, "batch states"]
    final: Float[Tensor, "batch states"]

    def __post_init__(self) -> None:
        shape = tuple(self.emit.shape)
        if len(shape) != 2 or 0 in shape:
            raise ValueError(f"emit must be [batch, states] with at least one of each, not {list(shape)}")
        if not self.offsets or len(set(self.offsets)) != len(self.offsets):
            raise ValueError("offsets must be different from each other, and at least one")
        for name, wanted in (("weight", (len(self.offsets), *shape)), ("start", shape), ("final", shape)):
            if tuple(getattr(self, name).shape) != wanted:
                raise ValueError(f"{name} must have shape {list(wanted)}, not {list(getattr(self, name).shape)}")

    @classmethod
    def from_arcs(
        cls,
        emit: Sequence[int],
        source: Sequence[int],
        target: Sequence[int],
        weight: Sequence[float] | None = None,
        start: Sequence[int] = (0,),
        final: Sequence[int] | None = None,
    ) -> AlignmentGraph:
        """One automaton from a list of arcs.

        Args:
            emit: label of each state.
            source: state that each arc leaves.
            target: state that each arc enters.
            weight: log-weight of each arc; 0 by default.
            start: states to begin in.
            final: states to end in; the last one by default.

        Raises:
            ValueError: arcs of unequal number, an arc given twice, or a state that does not exist.
        """
        states, weights = len(emit), list(weight) if weight is not None else [0.0] * len(source)
        arcs = list(zip(source, target))
        ends = list(final) if final is not None else [states - 1]
        if not len(source) == len(target) == len(weights):
            raise ValueError("source, target and weight must have one entry for each arc")
        if len(set(arcs)) != len(arcs):
            raise ValueError("an arc is given twice; give one with the summed weight")
        if any(not 0 <= s < states for s in [*source, *target, *start, *ends]):
            raise ValueError(f"states of arcs, start and final must lie in 0..{states - 1}")
        offsets = tuple(sorted({t - s for s, t in arcs})) or (0,)
        bands = torch.full((len(offsets), 1, states), -math.inf)
        for (s, t), value in zip(arcs, weights):
            bands[offsets.index(t - s), 0, t] = value
        border = torch.full((2, 1, states), -math.inf)
        border[0, 0, list(start)] = 0.0
        border[1, 0, ends] = 0.0
        return cls(torch.tensor([list(emit)]), offsets, bands, border[0], border[1])

    def __len__(self) -> int:
        return len(self.emit)

    @property
    def states(self) -> int:
        """States of the largest automaton."""
        return self.emit.shape[1]

    def to(self, like: Tensor) -> AlignmentGraph:
        """The graph on the device and with the floating-point type of a tensor."""
        weight, start, final = (w.to(like) for w in (self.weight, self.start, self.final))
        return AlignmentGraph(self.emit.to(like.device), self.offsets, weight, start, final)

    def reversed(self) -> AlignmentGraph:
        """The graph of the reversed alignments; state s becomes state ``states - 1 - s``, offsets stay."""
        weight = torch.stack([shifted(w, -d).flip(-1) for d, w in zip(self.offsets, self.weight)])
        return AlignmentGraph(self.emit.flip(-1), self.offsets, weight, self.final.flip(-1), self.start.flip(-1))


def shifted(values: Float[Tensor, "*rest states"], offset: int) -> Float[Tensor, "*rest states"]:
    """``values[..., s - offset]`` for each state s, -inf where there is no such state."""
    moved = torch.full_like(values, -math.inf)
    kept = max(0, values.shape[-1] - abs(offset))
    ahead, behind = max(0, offset), max(0, -offset)
    moved[..., ahead : ahead + kept] = values[..., behind : behind + kept]
    return moved
