"""Networks with many heads: their joint loss, one answer from all of them, and the best of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.training import call, evaluation, unpack

Rule = Literal["vote", "probability", "product", "rank", "weighted"]


def heads_loss(
    outputs: Float[Tensor, "heads batch classes"],
    y: Int[Tensor, " batch"],
    reduction: Literal["mean", "sum"] = "mean",
) -> Float[Tensor, ""]:
    """The heads' cross-entropies, averaged or added up.

    Under the mean a stage that k of the H heads share gets k / H of the gradient that it would get if it served one
    head alone; under the sum, k times that gradient.

    Args:
        outputs: logits of every head.
        y: classes.
        reduction: over heads; over examples it is always the mean.

    Raises:
        ValueError: not one output for each head and example; or another reduction.
    """
    if outputs.dim() != 3 or outputs.shape[1] != len(y):
        raise ValueError(f"outputs must be [heads, {len(y)}, classes], not {list(outputs.shape)}")
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be 'mean' or 'sum', not {reduction!r}")
    loss = cross_entropy(outputs.flatten(0, 1), y.long().repeat(len(outputs)))
    return loss if reduction == "mean" else loss * len(outputs)


def combine(
    outputs: Float[Tensor, "heads batch classes"],
    how: Rule = "vote",
    weights: Float[Tensor, " heads"] | Sequence[float] | None = None,
) -> Float[Tensor, "batch classes"]:
    """Scores of the classes from all heads; the largest is the answer, the smallest class where several are.

    Args:
        outputs: logits of every head.
        how: "vote" counts the heads whose largest output is the class, "weighted" by their weights. "probability" is
            the mean of the heads' probabilities, "product" the mean of their logarithms, "rank" the sum of one over the
            class's rank in each head.
        weights: one for each head, its accuracy on validation for instance, for "weighted".

    Raises:
        ValueError: another rule, or weights that are missing, of another number, or for a rule that takes none.
    """
    if how not in ("vote", "probability", "product", "rank", "weighted"):
        raise ValueError(f"how must be 'vote', 'probability', 'product', 'rank' or 'weighted', not {how!r}")
    if (weights is None) == (how == "weighted"):
        raise ValueError("weights must be given for how='weighted', and for no other rule")
    if how == "probability":
        return outputs.softmax(-1).mean(0)
    if how == "product":
        return outputs.log_softmax(-1).mean(0)
    if how == "rank":
        ranks = outputs.argsort(dim=-1, descending=True, stable=True).argsort(-1) + 1
        return (1 / ranks.to(outputs.dtype)).sum(0)
    votes = torch.zeros_like(outputs).scatter(-1, outputs.argmax(-1, keepdim=True), 1.0)
    if weights is None:
        return votes.sum(0)
    factors = torch.as_tensor(weights, dtype=outputs.dtype, device=outputs.device)
    if factors.shape != outputs.shape[:1]:
        raise ValueError(f"weights must be {len(outputs)} numbers, one for each head, not {list(factors.shape)}")
    return torch.einsum("h,hbc->bc", factors, votes)


@torch.no_grad()
def head_accuracies(model: nn.Module, loader: Iterable[Any]) -> Float[Tensor, " heads"]:
    """Each head's share of right answers, the model in evaluation mode and left as it was.

    Args:
        model: gives [heads, batch, classes].
        loader: batches in any form that `training.unpack` knows.

    Raises:
        ValueError: no batch.
    """
    right = []
    with evaluation(model):
        for batch in loader:
            x, y = unpack(batch)
            outputs = call(model, x)
            right.append((outputs.argmax(-1) == y).to(torch.promote_types(outputs.dtype, torch.float32)))
    if not right:
        raise ValueError("loader gave no batches")
    return torch.cat(right, 1).mean(1)


def best_head(model: nn.Module, loader: Iterable[Any]) -> int:
    """The head with the largest share of right answers, the first of several.

    Give it validation data: chosen on the test set, the best of H heads is better than itself by luck alone.

    Args:
        model: gives [heads, batch, classes].
        loader: validation batches.
    """
    return int(head_accuracies(model, loader).argmax())
