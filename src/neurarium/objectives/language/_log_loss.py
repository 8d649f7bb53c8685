"""The cumulative log-loss of a sequence: the length of its code in nats."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import nll_loss

from neurarium.objectives.language._response_loss import IGNORED


def cumulative_log_loss(
    log_probs: Float[Tensor, "batch length symbols"],
    targets: Int[Tensor, "batch length"],
    reduction: str = "mean",
) -> Float[Tensor, ...]:
    """Minus the log-probability of each sequence, summed over the places that count (Grau-Moya et al., 2024, eq. 4).

    Its expectation is the entropy of the source plus the regret, so what minimises it over a mixture of sources is the
    Bayes mixture. A sequence with fewer counted symbols weighs less, as it should: it says less.

    Args:
        log_probs: of all symbols at every place, as `SequencePredictor` gives them.
        targets: the symbols; -100 does not count.
        reduction: "mean" over sequences, "sum", or "none" for one number each.

    Raises:
        ValueError: an unknown reduction.
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', not {reduction!r}")
    each = nll_loss(log_probs.transpose(1, 2), targets.long(), ignore_index=IGNORED, reduction="none").sum(1)
    return each if reduction == "none" else each.sum() if reduction == "sum" else each.mean()
