"""Checks shared by losses and probes of sequence models; every message names the utterance it is about."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Targets = Tensor | Sequence[int] | Sequence[Sequence[int]] | Sequence[Tensor]


def padded_targets(
    targets: Targets, target_lengths: Tensor | Sequence[int] | None = None
) -> tuple[Int[Tensor, "batch labels"], Int[Tensor, " batch"]]:
    """Targets as a padded tensor and their lengths.

    Args:
        targets: a list of label lists; or padded [batch, labels]; or all of them in one row [sum of lengths].
        target_lengths: labels of each utterance; may be left out for a list, and for [batch, labels] without padding.

    Raises:
        ValueError: lengths are missing or do not fit.
    """
    if not isinstance(targets, Tensor):
        rows = [torch.as_tensor(row, dtype=torch.long, device="cpu") for row in targets]
        if any(row.dim() != 1 for row in rows):
            raise TypeError("targets must be a list with a list of labels for each utterance")
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])
    if targets.dim() not in (1, 2):
        raise ValueError(f"targets must be [batch, labels] or one row, not {list(targets.shape)}")
    if target_lengths is None:
        if targets.dim() == 1:
            raise ValueError("targets in one row need target_lengths")
        return targets.long(), torch.full((len(targets),), targets.shape[1], device=targets.device)
    lengths = torch.as_tensor(target_lengths, device=targets.device).long().reshape(-1)
    if len(lengths) and int(lengths.min()) < 0:
        raise ValueError(f"target_lengths must not be negative, got {lengths.tolist()}")
    if targets.dim() == 1:
        if int(lengths.sum()) != len(targets):
            raise ValueError(f"target_lengths sum to {int(lengths.sum())}, targets hold {len(targets)} labels")
        rows = list(targets.long().split(lengths.tolist()))
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths
    if len(lengths) != len(targets) or int(lengths.max()) > targets.shape[1]:
        raise ValueError(f"target_lengths must be {len(targets)} numbers up to {targets.shape[1]}")
    return targets[:, : max(1, int(lengths.max()))].long(), lengths


def within(lengths: Int[Tensor, " batch"], most: int) -> Bool[Tensor, "most batch"]:
    """True for the frames (rows) that belong to each utterance (columns)."""
    return torch.arange(most, device=lengths.device)[:, None] < lengths


def check_targets(targets: Tensor, lengths: Tensor, labels: int, blank: int | None) -> None:
    """Labels must exist and must not be blank.

    Raises:
        ValueError: blank or a target label is outside 0..labels-1, or a target holds the blank.
    """
    if blank is not None and not 0 <= blank < labels:
        raise ValueError(f"blank must be a label in 0..{labels - 1}, not {blank}")
    real = within(lengths, targets.shape[1]).t()
    outside = real & ((targets < 0) | (targets >= labels))
    if bool(outside.any()):
        b, u = outside.nonzero()[0].tolist()
        raise ValueError(f"targets must be labels in 0..{labels - 1}; utterance {b} has {int(targets[b, u])} at {u}")
    if blank is not None and bool((real & (targets == blank)).any()):
        b = int((real & (targets == blank)).any(1).nonzero()[0])
        raise ValueError(f"targets must not hold the blank {blank}; utterance {b} does")


def check_log_probs(
    log_probs: Float[Tensor, "frames batch labels"], lengths: Int[Tensor, " batch"], normalized: bool = True
) -> None:
    """Scores of real frames must be free of NaN and, where ``normalized``, log-softmax outputs.

    Raises:
        ValueError: a NaN (names utterance and frame), or rows whose probabilities do not sum to 1 within 1e-3.
    """
    total = log_probs.detach().float().logsumexp(-1) if normalized else log_probs.detach().sum(-1)
    bad = (total.isnan() if not normalized else ~(total.abs() <= 1e-3)) & within(lengths, len(log_probs))
    if not bool(bad.any()):
        return
    undefined = log_probs.detach().isnan().any(-1) & bad
    if bool(undefined.any()):
        t, b = undefined.nonzero()[0].tolist()
        raise ValueError(f"log_probs has NaN in utterance {b}, frame {t}")
    if normalized:
        t, b = bad.nonzero()[0].tolist()
        raise ValueError(
            f"log_probs must be log-softmax outputs, got rows summing to {float(total[t, b].exp()):.4g} "
            f"(utterance {b}, frame {t})"
        )
