"""How hidden states of words come together during training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import one_hot

from neurarium.data import all_words
from neurarium.probes._result import ProbeResult
from neurarium.probes.sequences._automaton import leader_groups
from neurarium.probes.sequences._hidden_states import read_states

FAR = 10.0
"""Pairs that were farther apart than this many thresholds and end together have come from afar."""


@dataclass(frozen=True)
class MergerHistory(ProbeResult):
    """Groups of words over training.

    Args:
        steps: when the states were looked at.
        states: number of groups.
        merged: share of the pairs of words that are nearer than the threshold.
        diverged: of the pairs that end so, the share that had once been farther than ten thresholds.
        words: how many.
        lengths: of the words [words].
        together: which pairs end nearer than the threshold [words, words].
    """

    steps: tuple[int, ...]
    states: tuple[int, ...]
    merged: tuple[float, ...]
    diverged: float
    words: int
    lengths: Tensor
    together: Bool[Tensor, "words words"]

    def merged_by_length(self) -> Float[Tensor, "lengths lengths"]:
        """Share of the pairs of a word of one length and one of another that end together."""
        longest = int(self.lengths.max())
        shares = torch.zeros(longest, longest, dtype=torch.float64)
        for a in range(longest):
            for b in range(longest):
                block = self.together[self.lengths == a + 1][:, self.lengths == b + 1].double()
                own = len(block) if a == b else 0  # a word is no pair with itself
                shares[a, b] = (block.sum() - own) / max(block.numel() - own, 1)
        return shares

    def summary(self) -> str:
        """One sentence."""
        return (
            f"{self.states[0]} groups of {self.words} words at first, {max(self.states)} at most, {self.states[-1]} at "
            f"the end; {self.merged[-1]:.1%} of the pairs are together, {self.diverged:.1%} of which had been far apart"
        )

    def plot(self, ax: Any) -> Any:
        """Groups over steps."""
        ax.plot(self.steps, self.states)
        ax.set_xlabel("step")
        ax.set_ylabel("groups of words")
        return ax


def merger_history(
    snapshots: Sequence[Float[Tensor, "words features"]],
    lengths: Tensor,
    steps: Sequence[int] | None = None,
    tolerance: float = 0.01,
) -> MergerHistory:
    """Groups of words at each of several moments of a training.

    The threshold is a share of the norm of the standard deviations over all words and moments together.

    Args:
        snapshots: the hidden states of the same words at each moment.
        lengths: of the words [words].
        steps: when that was; 0, 1, 2 ... by default.
        tolerance: as for `extract_automaton`.

    Raises:
        ValueError: no snapshot, states that are not finite, or ``tolerance`` not above 0.
    """
    if not snapshots or tolerance <= 0:
        raise ValueError("merger_history needs a snapshot or more and a tolerance above 0")
    stacked = torch.stack(list(snapshots)).double()
    if not bool(torch.isfinite(stacked).all()):
        raise ValueError("snapshots must be finite")
    threshold = tolerance * float(stacked.flatten(0, 1).std(0, correction=0).norm())
    count = stacked.shape[1]
    far = torch.zeros(count, count, dtype=torch.bool, device=stacked.device)
    near, states, merged = far, [], []
    for vectors in stacked:
        apart = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")
        near = apart < threshold
        far = far | (apart > FAR * threshold)
        states.append(int(leader_groups(vectors, threshold).max()) + 1)
        merged.append((int(near.sum()) - count) / max(count * (count - 1), 1))
    pairs = int(near.sum()) - count
    diverged = int((near & far).sum()) / pairs if pairs else 0.0
    moments = tuple(range(len(stacked))) if steps is None else tuple(steps)
    return MergerHistory(moments, tuple(states), tuple(merged), diverged, count, lengths, near)


class MergerRecorder:
    """A callback of `fit` that keeps the hidden states of all words up to a length.

    Args:
        model: as for `extract_automaton`.
        symbols: size of the alphabet.
        longest: length of the longest words.
        every: steps between two looks.
        layer: as for `extract_automaton`.
    """

    def __init__(self, model: nn.Module, symbols: int, longest: int, every: int, layer: str | None = None) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, not {every}")
        self.model = model
        self.every = every
        self.layer = layer
        self.words = [one_hot(all_words(symbols, length), symbols) for length in range(1, longest + 1)]
        self.lengths = torch.cat([torch.full((len(w),), w.shape[1]) for w in self.words])
        self.steps: list[int] = []
        self.snapshots: list[Tensor] = []

    def __call__(self, step: int, loss: float) -> None:
        """Look at the states where it is time to."""
        if step % self.every == 0:
            self.look(step)

    def look(self, step: int) -> None:
        """Look at the states now."""
        like = next(self.model.parameters())
        found = [read_states(self.model, x.to(like.device, like.dtype), self.layer)[0] for x in self.words]
        self.snapshots.append(torch.cat([s[:, -1] if s.dim() == 3 else s for s in found]).cpu())
        self.steps.append(step)

    def history(self, tolerance: float = 0.01) -> MergerHistory:
        """What was seen."""
        return merger_history(self.snapshots, self.lengths, self.steps, tolerance)
