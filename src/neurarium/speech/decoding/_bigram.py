"""Frame scores into phones with a bigram: counting it, searching with it, and the errors that are reported."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurarium.speech.decoding._decoding import collapse, label_error_rate


def estimate_transitions(
    labels: Int[Tensor, "batch time"], num_labels: int, smoothing: float = 1.0
) -> Float[Tensor, "labels labels"]:
    """Log-probability of the label of the next frame (column) after each label (row): staying, and a bigram.

    Args:
        labels: a label for every frame; negative ones are padding.
        num_labels: labels there are.
        smoothing: added to each count.

    Raises:
        ValueError: a label of ``num_labels`` or above, or ``smoothing`` not positive.
    """
    if not smoothing > 0:
        raise ValueError(f"smoothing must be positive, not {smoothing}")
    if labels.numel() and int(labels.max()) >= num_labels:
        raise ValueError(f"labels go up to {int(labels.max())}, but num_labels is {num_labels}")
    before, after = labels[:, :-1], labels[:, 1:]
    real = (before >= 0) & (after >= 0)
    pairs = before[real] * num_labels + after[real]
    counts = torch.bincount(pairs, minlength=num_labels**2).view(num_labels, num_labels) + smoothing
    return (counts / counts.sum(1, keepdim=True)).log()


def bigram_viterbi(
    log_probs: Float[Tensor, "batch time labels"],
    transitions: Float[Tensor, "labels labels"],
    lengths: Int[Tensor, " batch"] | None = None,
    *,
    log_prior: Float[Tensor, " labels"] | None = None,
    weight: float = 1.0,
) -> Int[Tensor, "batch time"]:
    """The best sequence of frame labels under frame scores and a bigram of labels.

    It maximises ``sum_t log p(y_t | x) - log p(y_t) + weight log a(y_t | y_{t-1})``: a network's posterior over the
    prior is, but for a constant, the likelihood of the frame that a hidden Markov model needs.

    Args:
        log_probs: log posteriors of each frame.
        transitions: log-probabilities, row to column; -inf forbids.
        lengths: frames of each sequence; all by default.
        log_prior: subtracted from the scores; nothing by default.
        weight: of the transitions.

    Returns:
        Labels; -1 beyond a sequence's end.
    """
    scores = log_probs.detach() if log_prior is None else log_probs.detach() - log_prior
    moves = weight * transitions.to(scores)
    batch, time, _ = scores.shape
    ends = torch.full((batch,), time, device=scores.device) if lengths is None else lengths.to(scores.device)
    best, back = scores[:, 0], []
    for t in range(1, time):
        arriving, origin = (best[:, :, None] + moves).max(1)
        running = (t < ends)[:, None]
        best = torch.where(running, arriving + scores[:, t], best)
        back.append(origin)
    label = best.argmax(1)
    path = torch.full((batch, time), -1, dtype=torch.long, device=scores.device)
    rows = torch.arange(batch, device=scores.device)
    for t in range(time - 1, -1, -1):
        inside = t < ends
        path[:, t] = torch.where(inside, label, path[:, t])
        if t:
            label = torch.where(inside, back[t - 1][rows, label], label)
    return path


def frame_error_rate(hypothesis: Int[Tensor, "batch time"], reference: Int[Tensor, "batch time"]) -> float:
    """Share of frames with a wrong label; frames whose reference is negative are padding.

    Raises:
        ValueError: no frame has a label.
    """
    real = reference >= 0
    if not bool(real.any()):
        raise ValueError("reference has no labelled frame")
    return float((hypothesis[real] != reference[real]).double().mean())


def phone_error_rate(
    hypothesis: Int[Tensor, "batch time"], reference: Int[Tensor, "batch time"], fold: Sequence[int] | None = None
) -> float:
    """Edits per reference phone after repeats are merged; negative frame labels are padding.

    Args:
        hypothesis: frame labels found.
        reference: frame labels meant.
        fold: phone of each label, where several labels (the states of a phone, phones that scoring does not tell
            apart) count as one.
    """

    def phones(path: list[int]) -> list[int]:
        return collapse([fold[label] if fold is not None and label >= 0 else label for label in path], blank=None)

    said, meant = ([phones(path) for path in labels.tolist()] for labels in (hypothesis, reference))
    return label_error_rate(said, meant)
