"""Which neurons a fine-tuning turned, how much two sets of neurons share, and how the order of change moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.layers._linear_maps import first_difference, joined, neuron_parts
from neurarium.probes._result import ProbeResult


@dataclass(frozen=True)
class NeuronSimilarity(ProbeResult):
    """How far every neuron's weights (or its outputs) turned.

    Args:
        distances: 1 - cos(before, after) of each neuron, by weight name; 0 where only the length changed.
        norms: length of each neuron's weights (of its outputs) before.
    """

    distances: Mapping[str, Tensor]
    norms: Mapping[str, Tensor]

    @property
    def norm_correlation(self) -> float:
        """Rank correlation of the distance with 1 / norm.

        Near 1 the order only says which rows are short: an adaptive optimizer moves every weight about equally far, and
        the same step turns a short row more.
        """
        distance, norm = (torch.cat(list(part.values())).double() for part in (self.distances, self.norms))
        ranks = torch.stack([_ranks(distance), _ranks(-norm)])
        return float(torch.corrcoef(ranks)[0, 1])

    def summary(self) -> str:
        """Two sentences."""
        everything = torch.cat(list(self.distances.values()))
        order = sorted(self.distances, key=lambda name: -float(self.distances[name].median()))
        return (
            f"{len(everything)} neurons turned by 1 - cos = {float(everything.median()):.2g} (median), most in "
            f"{order[0]}; rank correlation with 1 / norm {self.norm_correlation:.2f}"
        )

    def plot(self, ax: Any) -> Any:
        """Histogram of log10 (1 - cos) by weight."""
        for name, distance in self.distances.items():
            ax.hist(distance.clamp_min(1e-12).log10().cpu().numpy(), bins=30, histtype="step", label=name)
        ax.set_xlabel("log10(1 - cos)")
        ax.set_ylabel("neurons")
        return ax


def neuron_similarity(
    base: nn.Module,
    tuned: nn.Module | Mapping[str, Tensor],
    modules: Sequence[str] | None = None,
    axis: str = "output",
    unit: str = "vector",
) -> NeuronSimilarity:
    """Cosine distance of each neuron's weights before and after a fine-tuning (the paper's sensitivity score).

    It is computed in float32 as half the squared distance of unit vectors: 1 - cos by subtraction would lose the small
    changes of a short training altogether.

    Args:
        base: the model before.
        tuned: the model after, or its state dict.
        modules: whose linear maps, as in `neurarium.layers.linear_maps`; the blocks by default.
        axis: "output": a neuron is a row of the weights, all that makes one output; "input": a column.
        unit: "vector": neurons of single weights; "ffn": hidden units of the feed-forward networks, each of them its
            row of the up projection (and gate) and its column of the down projection, compared as one vector.

    Raises:
        ValueError: the two differ in a parameter's name or shape, nothing is found, or an unknown axis or unit.
    """
    found = neuron_parts(base, modules, axis, unit)
    state = dict(tuned.state_dict() if isinstance(tuned, nn.Module) else tuned)
    difference = first_difference(base, state)
    if difference is not None:
        raise ValueError(f"base and tuned differ in architecture: {difference}")
    distances, norms = {}, {}
    with torch.no_grad():
        for name, parts in found.items():
            before = joined(parts)
            before = before.to(torch.promote_types(before.dtype, torch.float32))
            after = joined(parts, state).to(before)
            lengths = before.norm(dim=1), after.norm(dim=1)
            units = [w / n.clamp_min(1e-30)[:, None] for w, n in zip((before, after), lengths, strict=True)]
            distances[name] = 0.5 * (units[0] - units[1]).square().sum(1)
            norms[name] = lengths[0]
    return NeuronSimilarity(distances, norms)


@dataclass(frozen=True)
class NeuronOverlap(ProbeResult):
    """What two sets of neurons share.

    Args:
        jaccard: neurons in both over neurons in either.
        chance: the same for two random sets of these sizes.
        by_weight: the Jaccard index within each weight matrix where either set has neurons.
    """

    jaccard: float
    chance: float
    by_weight: Mapping[str, float]

    def summary(self) -> str:
        """One sentence."""
        return f"Jaccard index {self.jaccard:.3f}, {self.jaccard / max(self.chance, 1e-12):.1f} times chance"

    def plot(self, ax: Any) -> Any:
        """The index within each weight matrix."""
        ax.barh(list(self.by_weight), list(self.by_weight.values()))
        ax.axvline(self.chance, linestyle=":")
        ax.set_xlabel("Jaccard index")
        return ax


def neuron_overlap(a: Mapping[str, Tensor], b: Mapping[str, Tensor], sizes: Mapping[str, int]) -> NeuronOverlap:
    """Jaccard index of two sets of neurons (a `NeuronSet` is one: indices by weight name).

    Args:
        a: one set.
        b: another.
        sizes: neurons of each weight (``NeuronSet.sizes``).

    Raises:
        ValueError: both sets are empty.
    """
    total = sum(sizes.values())
    sets = [{name: set(index.tolist()) for name, index in part.items()} for part in (a, b)]
    counts = [sum(len(index) for index in part.values()) for part in sets]
    if not any(counts):
        raise ValueError("both sets are empty")
    names = [n for n in sizes if sets[0].get(n) or sets[1].get(n)]
    common = {n: len(sets[0].get(n, set()) & sets[1].get(n, set())) for n in names}
    either = {n: len(sets[0].get(n, set()) | sets[1].get(n, set())) for n in names}
    expected = counts[0] * counts[1] / total
    return NeuronOverlap(
        sum(common.values()) / sum(either.values()),
        expected / (sum(counts) - expected),
        {n: common[n] / either[n] for n in names},
    )


@dataclass(frozen=True)
class NeuronRankShift(ProbeResult):
    """How the order of change differs between a full fine-tuning and one of few neurons.

    Args:
        strongly_affected: trained neurons that are also among the most changed after full fine-tuning.
        suppressed: neurons among the most changed after full fine-tuning that were kept.
        indirectly_affected: neurons that were kept, yet are among those whose outputs changed most, as many as were
            trained; None where no outputs were given.
        shift: places that each neuron moved, by weight name; positive: it changed more, compared with the others, than
            after full fine-tuning.
    """

    strongly_affected: int
    suppressed: int
    shift: Mapping[str, Tensor]
    indirectly_affected: int | None = None

    def summary(self) -> str:
        """One sentence."""
        moved = torch.cat(list(self.shift.values())).abs().double().mean()
        indirectly = "" if self.indirectly_affected is None else f", {self.indirectly_affected} indirectly affected"
        return (
            f"{self.strongly_affected} neurons strongly affected, {self.suppressed} suppressed{indirectly}; "
            f"a neuron moved {float(moved):.0f} places in the order of change"
        )

    def plot(self, ax: Any) -> Any:
        """Mean shift of each weight's neurons."""
        ax.barh(list(self.shift), [float(s.double().mean()) for s in self.shift.values()])
        ax.set_xlabel("places moved")
        return ax


def neuron_rank_shift(
    full: NeuronSimilarity,
    partial: NeuronSimilarity,
    trained: Mapping[str, Tensor],
    outputs: NeuronSimilarity | None = None,
) -> NeuronRankShift:
    """Compare the order of change after full fine-tuning with that after training only some neurons.

    Args:
        full: base against the fully fine-tuned model.
        partial: base against the model in which ``trained`` was trained.
        trained: indices of the trained neurons by weight name.
        outputs: base against that model by what neurons give (`neuron_output_similarity`), for those that were kept
            and yet work differently.

    Raises:
        ValueError: they do not cover the same weights.
    """
    names = list(full.distances)
    if any(names != list(part.distances) for part in (partial, outputs) if part is not None):
        raise ValueError("full, partial and outputs must cover the same weights")
    sizes = [len(full.distances[name]) for name in names]
    chosen = torch.cat([_marked(trained.get(n, torch.zeros(0, dtype=torch.long)), s) for n, s in zip(names, sizes)])
    given = (full, partial) if outputs is None else (full, partial, outputs)
    change = [torch.cat([part.distances[n] for n in names]).cpu().double() for part in given]
    most = [_marked(c.argsort(descending=True)[: int(chosen.sum())], len(c)) for c in change]
    shift = _ranks(change[1]) - _ranks(change[0])
    return NeuronRankShift(
        int((most[0] & chosen).sum()),
        int((most[0] & ~chosen).sum()),
        dict(zip(names, shift.split(sizes), strict=True)),
        None if outputs is None else int((most[2] & ~chosen).sum()),
    )


def _marked(index: Tensor, size: int) -> Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[index.cpu()] = True
    return mask


def _ranks(values: Tensor) -> Tensor:
    """Places in ascending order; equal values share the mean of their places."""
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts + 1) / 2)[inverse]
