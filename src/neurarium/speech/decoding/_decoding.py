"""Greedy decoding of frame posteriors, and the distance between label sequences."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor


def collapse(path: Sequence[int], blank: int | None = 0) -> list[int]:
    """A frame path as labels: repeats are merged, then blanks removed (negative entries are padding).

    ``blank=None`` only merges.
    """
    labels: list[int] = []
    before = None
    for label in path:
        if label != before and label != blank and label >= 0:
            labels.append(label)
        before = label
    return labels


def greedy_labels(
    log_probs: Float[Tensor, "frames batch labels"],
    lengths: Int[Tensor, " batch"] | Sequence[int] | None = None,
    blank: int | None = 0,
) -> list[list[int]]:
    """The most probable label of each frame, collapsed; one list for each utterance.

    Args:
        log_probs: scores of each label in each frame.
        lengths: frames of each utterance; all by default.
        blank: label that is removed; None for none.
    """
    best = log_probs.detach().argmax(-1).t().tolist()
    ends = [len(log_probs)] * len(best) if lengths is None else [int(n) for n in lengths]
    return [collapse(path[:end], blank) for path, end in zip(best, ends)]


def edit_distance(hypothesis: Sequence[int], reference: Sequence[int]) -> int:
    """Fewest insertions, deletions and substitutions that turn one sequence into the other (Levenshtein)."""
    row = list(range(len(reference) + 1))
    for i, said in enumerate(hypothesis, start=1):
        diagonal, row[0] = row[0], i
        for j, meant in enumerate(reference, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (said != meant))
    return row[-1]


def label_error_rate(hypotheses: Sequence[Sequence[int]], references: Sequence[Sequence[int]]) -> float:
    """Edits over all utterances divided by the number of reference labels (1.0 for empty output).

    Raises:
        ValueError: not one hypothesis for each reference, or no reference label at all.
    """
    labels = sum(len(reference) for reference in references)
    if len(hypotheses) != len(references) or labels == 0:
        raise ValueError("label_error_rate needs one hypothesis for each reference, and at least one reference label")
    return sum(edit_distance(h, r) for h, r in zip(hypotheses, references)) / labels
