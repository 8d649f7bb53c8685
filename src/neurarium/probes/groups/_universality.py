"""Whether networks trained from different seeds end in the same representations, learned in the same order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor, nn

from neurarium.data import FiniteGroup
from neurarium.probes._result import ProbeResult
from neurarium.probes.groups._evidence import RepresentationEvidence, representation_evidence


@dataclass(frozen=True)
class UniversalityTable(ProbeResult):
    """One row per network.

    Args:
        irreps: names of the representations.
        similarity: of each network's logits to each representation's trace.
        key: each network's key representations.
        faithful: whether these tell all elements apart.
        logit_fve: share of the logits' variance that they explain.
        jaccard: common over all key representations, mean over pairs of networks; 1 for a single network.
        appeared: checkpoint from which on each representation was key; -1 where it is not in the end, or where no
            checkpoints were given.
        order_correlation: rank correlation of the order of appearance, mean over pairs of networks, over the
            representations that appeared in both; NaN where no pair has three such.
    """

    irreps: tuple[str, ...]
    similarity: Float[Tensor, "models irreps"]
    key: tuple[tuple[str, ...], ...]
    faithful: tuple[bool, ...]
    logit_fve: tuple[float, ...]
    jaccard: float
    appeared: tuple[tuple[int, ...], ...]
    order_correlation: float

    @property
    def spread(self) -> float:
        """Largest difference between two networks' similarity to one representation."""
        return float((self.similarity.amax(0) - self.similarity.amin(0)).max())

    def summary(self) -> str:
        """Weak and strong universality in three lines."""
        return (
            f"weak universality: {sum(self.faithful)} of {len(self.key)} networks have a faithful set of key "
            f"representations\nstrong universality: their sets overlap by {self.jaccard:.2f} (Jaccard), similarities "
            f"differ by up to {self.spread:.2f}\norder of appearance: rank correlation {self.order_correlation:.2f}"
        )

    def plot(self, ax: Any) -> Any:
        """The similarities as a map: networks by representations."""
        image = ax.imshow(self.similarity.cpu(), vmin=0, aspect="auto", cmap="Blues")
        ax.set_xticks(range(len(self.irreps)), self.irreps)
        ax.set(xlabel="representation", ylabel="network")
        ax.figure.colorbar(image, ax=ax, label="similarity")
        return ax


def universality(
    models: Sequence[nn.Module | Sequence[nn.Module]],
    group: FiniteGroup,
    *,
    word: str = "ab",
    threshold: float = 0.05,
    batch_size: int = 8192,
) -> UniversalityTable:
    """Compare networks by the representations they use (arXiv 2302.03025, section 6).

    Args:
        models: networks, or for each the checkpoints of its training in order, the last of which counts as the network.
        group: the group whose product they compute.
        word: what they compute.
        threshold: similarity above which a representation is key.
        batch_size: pairs at once.

    Raises:
        ValueError: there are no models; or what `representation_evidence` says.
    """
    if not models:
        raise ValueError("models must hold at least one network")
    runs = [[m] if isinstance(m, nn.Module) else list(m) for m in models]
    evidence: list[list[RepresentationEvidence]] = [
        [representation_evidence(m, group, word=word, threshold=threshold, batch_size=batch_size) for m in run]
        for run in runs
    ]
    last = [run[-1] for run in evidence]
    appeared = tuple(_appeared(run) for run in evidence)
    return UniversalityTable(
        irreps=last[0].irreps,
        similarity=torch.stack([e.similarity for e in last]),
        key=tuple(e.key for e in last),
        faithful=tuple(e.faithful for e in last),
        logit_fve=tuple(e.logit_fve for e in last),
        jaccard=_mean([_jaccard(a.key, b.key) for a, b in combinations(last, 2)], 1.0),
        appeared=appeared,
        order_correlation=_mean([c for a, b in combinations(appeared, 2) if (c := _rank_correlation(a, b)) == c]),
    )


def _jaccard(a: Sequence[str], b: Sequence[str]) -> float:
    """Common over all members of two sets; 1 where both are empty."""
    return len(set(a) & set(b)) / len(set(a) | set(b)) if a or b else 1.0


def _appeared(run: Sequence[RepresentationEvidence]) -> tuple[int, ...]:
    found = []
    for name in run[0].irreps:
        keys = [name in e.key for e in run]
        since = len(keys) - next((i for i, key in enumerate(reversed(keys)) if not key), len(keys))
        found.append(since if len(run) > 1 and keys[-1] else -1)
    return tuple(found)


def _rank_correlation(a: Sequence[int], b: Sequence[int]) -> float:
    both = [(x, y) for x, y in zip(a, b) if x >= 0 and y >= 0]
    if len(both) < 3 or any(len(set(side)) == 1 for side in zip(*both)):
        return float("nan")
    return float(spearmanr(*zip(*both)).statistic)


def _mean(values: Sequence[float], otherwise: float = float("nan")) -> float:
    return sum(values) / len(values) if values else otherwise
