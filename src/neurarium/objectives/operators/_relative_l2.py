"""How far an answer is from the truth, as a share of the truth's own size."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def relative_l2(
    output: Float[Tensor, ...],
    target: Float[Tensor, ...],
    mask: Bool[Tensor, ...] | None = None,
    reduction: str = "mean",
) -> Float[Tensor, "*functions"]:
    """``‖output - target‖ / ‖target‖`` for each function, over all its places and outputs.

    Args:
        output: answers of a network.
        target: the truth.
        mask: which places count; all by default.
        reduction: over functions: "mean", "sum" or "none".

    Raises:
        ValueError: shapes that differ, an unknown reduction, or a truth that is 0 everywhere (its index is named).
    """
    if output.shape != target.shape or (mask is not None and mask.shape != target.shape):
        raise ValueError(f"output and mask must have the target's shape {list(target.shape)}, not {list(output.shape)}")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', not {reduction!r}")
    if mask is not None:
        output, target = torch.where(mask, output, 0), torch.where(mask, target, 0)
    size = target.flatten(1).norm(dim=1)
    if bool((size == 0).any()):
        raise ValueError(f"target {int((size == 0).nonzero()[0])} is 0 everywhere: there is no share of it")
    each = (output - target).flatten(1).norm(dim=1) / size
    return each if reduction == "none" else each.mean() if reduction == "mean" else each.sum()
