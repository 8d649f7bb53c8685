"""What a language model holds against each pair of tokens, beside how often the pair occurs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult
from neurarium.training import evaluation


@dataclass(frozen=True)
class EdgeEnergies(ProbeResult):
    """Means over all places in a text.

    Args:
        energies: mean logit of the next token (column) where a token stands (row); NaN where it never did.
        counts: how often the next token followed.
        rank_correlation: Spearman's, of energies and counts of one token's successors; the mean over tokens, weighted
            by how often they occur.
    """

    energies: Float[Tensor, "num_tokens num_tokens"]
    counts: Float[Tensor, "num_tokens num_tokens"]
    rank_correlation: float

    def summary(self) -> str:
        """One line."""
        seen = int((self.counts > 0).sum())
        return (
            f"{seen} pairs of tokens occur; energies and counts have a rank correlation of {self.rank_correlation:.2f}"
        )

    def plot(self, ax: Any) -> Any:
        """The table of energies."""
        ax.imshow(self.energies.numpy())
        ax.set(xlabel="next token", ylabel="token")
        return ax


@torch.no_grad()
def edge_energies(model: nn.Module, loader: Iterable[tuple[Tensor, Tensor]]) -> EdgeEnergies:
    """Read the mean energy of every edge of a model of tokens on a text.

    Args:
        model: tokens [batch, length] -> logits of the next token; for a `SignalFlowLanguageModel` they are energies.
        loader: batches of tokens, and of the tokens that follow.

    Raises:
        ValueError: the loader is empty.
    """
    totals = counts = None
    with evaluation(model):
        for x, y in loader:
            logits = model(x).flatten(0, 1).double().cpu()
            size, source, following = logits.shape[-1], x.flatten().cpu(), y.flatten().cpu()
            if totals is None or counts is None:
                totals, counts = logits.new_zeros(size, size), logits.new_zeros(size, size)
            totals.index_add_(0, source, logits)
            counts.index_put_((source, following), logits.new_ones(()), accumulate=True)
    if totals is None or counts is None:
        raise ValueError("loader gave no batches")
    often = counts.sum(1)
    energies = totals / often[:, None].where(often[:, None] > 0, torch.nan)
    told = [row for row in range(len(often)) if often[row] > 0 and len(counts[row].unique()) > 1]
    ranks = [float(spearmanr(energies[row].numpy(), counts[row].numpy()).statistic) for row in told]
    weights = often[told] / often[told].sum()
    return EdgeEnergies(energies.float(), counts.float(), float(weights @ torch.tensor(ranks, dtype=weights.dtype)))
