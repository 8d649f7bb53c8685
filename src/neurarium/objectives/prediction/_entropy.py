"""The entropy of a classifier's predictions: a loss that needs no labels."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def prediction_entropy(logits: Float[Tensor, "*batch classes"]) -> Float[Tensor, ""]:
    """Mean over the batch of -sum_c p_c log p_c, in nats, with p = softmax(logits).

    Its gradient in the logits of one example is -p (log p + H) / batch: it sharpens what is already likely.

    Args:
        logits: scores; the last dimension is over classes.
    """
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1).mean()
