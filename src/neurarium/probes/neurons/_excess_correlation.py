"""Which neurons of a language model come again when it is trained from another seed.

A neuron's best correlation with the neurons of a sibling, less what it would be if the sibling's neurons were turned
into a random basis: what is left belongs to the neuron, not to the space in which it lives (Gurnee et al., 2024).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from neurarium.layers._linear_maps import feed_forward, linear_maps
from neurarium.probes._result import ProbeResult
from neurarium.probes.similarity._correlation_table import inverse, random_rotation
from neurarium.probes.similarity._unit_correlation import UnitCorrelation
from neurarium.probes.similarity._units import INPUT, Units, kept_tokens, rows
from neurarium.training import evaluation

FEW = 10_000
"""Below so many tokens best correlations are partly chance, and the result says so."""


@dataclass(frozen=True)
class ExcessCorrelation(ProbeResult):
    """One number per neuron; neurons are counted through all layers.

    Args:
        excess: mean over the siblings of best correlation less baseline; 0 for dead neurons.
        best: best correlation with any neuron of a sibling, [siblings, neurons].
        baseline: the same with the sibling's neurons in a random basis, [siblings, neurons].
        partner: the sibling's neuron, counted through its layers, [siblings, neurons].
        layers: names of the layers of hidden neurons.
        sizes: neurons of each layer.
        partner_sizes: neurons of each layer of the siblings.
        samples: tokens that were seen.
    """

    excess: Float[Tensor, " neurons"]
    best: Float[Tensor, "siblings neurons"]
    baseline: Float[Tensor, "siblings neurons"]
    partner: Int[Tensor, "siblings neurons"]
    layers: tuple[str, ...]
    sizes: tuple[int, ...]
    partner_sizes: tuple[int, ...]
    samples: int

    def universal(self, threshold: float = 0.5) -> Bool[Tensor, " neurons"]:
        """Neurons with more excess than this."""
        return self.excess > threshold

    @property
    def layer(self) -> Int[Tensor, " neurons"]:
        """Place of each neuron's layer."""
        return torch.repeat_interleave(torch.arange(len(self.sizes)), torch.tensor(self.sizes))

    def partner_layers(self, threshold: float = 0.5) -> Int[Tensor, "layers layers"]:
        """How many universal neurons of each layer (row) have their partner in each layer of a sibling (column)."""
        of = torch.repeat_interleave(torch.arange(len(self.partner_sizes)), torch.tensor(self.partner_sizes))
        chosen = self.universal(threshold).cpu()
        counts = torch.zeros(len(self.sizes), len(self.partner_sizes), dtype=torch.long)
        for partner in self.partner.cpu():
            place = self.layer[chosen] * counts.shape[1] + of[partner[chosen]]
            counts += place.bincount(minlength=counts.numel()).view_as(counts)
        return counts

    def summary(self) -> str:
        """Share of universal neurons, and where their partners sit."""
        chosen = self.universal()
        counts = self.partner_layers()
        same = f", {float(counts.diagonal().sum() / counts.sum()):.0%} of the partners at the same depth"
        few = "; few tokens: part of it is chance" if self.samples < FEW else ""
        return (
            f"{int(chosen.sum()):,} of {len(chosen):,} neurons ({float(chosen.double().mean()):.2%}) exceed 0.5 over "
            f"{len(self.best)} sibling(s) and {self.samples:,} tokens; best correlation {float(self.best.mean()):.2f}, "
            f"in a random basis {float(self.baseline.mean()):.2f} on average"
            f"{same if len(self.sizes) == len(self.partner_sizes) and int(counts.sum()) else ''}{few}"
        )

    def plot(self, ax: Any) -> Any:
        """Best correlation against the baseline, a point per neuron; universal ones in colour."""
        best, baseline = self.best.mean(0).cpu(), self.baseline.mean(0).cpu()
        chosen = self.universal().cpu()
        ax.scatter(baseline[~chosen], best[~chosen], s=3, color="0.7", linewidths=0, label="others")
        points = ax.scatter(
            baseline[chosen], best[chosen], s=8, c=self.layer[chosen], cmap="viridis", linewidths=0, label="universal"
        )
        ax.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
        ax.plot([0, 0.5], [0.5, 1], color="grey", linewidth=0.8, linestyle=":")
        if bool(chosen.any()):
            ax.figure.colorbar(points, ax=ax, label="layer")
        ax.set(xlabel="baseline: random basis", ylabel="best correlation", xlim=(0, 1), ylim=(0, 1.02))
        return ax


def hidden_layers(model: nn.Module) -> list[str]:
    """Names under which the hidden neurons of a decoder's feed-forward networks can be tapped.

    Raises:
        ValueError: none is found.
    """
    found = [f"{m.path}{INPUT}" for m in linear_maps(model, ["*"]).values() if feed_forward(model, m) is not None]
    if not found:
        raise ValueError("no feed-forward network was found in the model; name the layers of its neurons in layers")
    return found


def excess_correlation(
    model: nn.Module,
    siblings: Sequence[nn.Module] | nn.Module,
    batches: Iterable[Any],
    layers: Sequence[str] | None = None,
    *,
    pairs: Literal["all", "matching"] = "all",
    exclude: Sequence[int] = (),
    precision: torch.dtype = torch.float32,
    memory: float = 4.0,
    seed: int = 0,
) -> ExcessCorrelation:
    """Best correlation of every neuron with a sibling's, less the best in a random basis (Gurnee et al., 2024, sec. 3).

    One pass; no activation is kept. The baseline costs no pass of its own: a rotation of a layer's neurons is a
    rotation of the correlations. A sibling that is the model itself is run once.

    Args:
        model: a decoder (any module with feed-forward networks, or with ``layers`` named).
        siblings: models of the same tokens and depth, from other seeds; or one of them.
        batches: token ids [batch, positions], tuples that begin with them, or mappings with ``input_ids`` and, where
            there is padding, ``attention_mask``.
        layers: names of modules, ``"name:input"`` for what enters one; by default the hidden neurons of all
            feed-forward networks (what enters their last map).
        pairs: "all": a partner may sit in any layer; "matching": in the layer at the same place only, which asks for
            so many times less work and memory as there are layers.
        exclude: token ids that do not count (beginning of text, newlines: they would tie unrelated neurons).
        precision: of the products of one batch; batches are added up in float64.
        memory: GiB that the sums may take.
        seed: of the random bases.

    Raises:
        ValueError: no sibling, another vocabulary or number of layers, too little memory, no tokens, or an activation
            that is not finite.
    """
    others = [siblings] if isinstance(siblings, nn.Module) else list(siblings)
    if not others:
        raise ValueError("siblings must hold at least one model")
    for other in others:
        _same_vocabulary(model, other)
    readers = [Units(m, list(layers) if layers is not None else hidden_layers(m)) for m in (model, *others)]
    count = len(readers[0].layers)
    if any(len(reader.layers) != count for reader in readers):
        raise ValueError(f"the model has {count} layers of neurons, a sibling {[len(r.layers) for r in readers[1:]]}")
    places = [(i, j) for i in range(count) for j in range(count) if pairs == "all" or i == j]
    cross = [{place: UnitCorrelation(within=False, precision=precision) for place in places} for _ in others]
    own = [[UnitCorrelation(precision=precision) for _ in range(count)] for _ in others]
    sizes: tuple[int, ...] = ()
    with torch.no_grad(), evaluation(model, *others):
        for batch in batches:
            keep = kept_tokens(batch, exclude)
            found = _read(readers[0], batch, keep)
            if not sizes:
                sizes = tuple(part.shape[1] for part in found)
                _check_memory(sizes, len(places) / count**2, len(others), memory)
            for k, other in enumerate(others):
                same = other is model
                theirs = found if same else _read(readers[k + 1], batch, keep)
                for (i, j), total in cross[k].items():
                    if not (same and i == j):  # then the layer's own sums hold it
                        total.update(found[i], theirs[j])
                for total, part in zip(own[k], theirs):
                    total.update(part)
    results = [
        _strongest(cross[k], own[k], count, other is model, precision, seed + 1000 * k)
        for k, other in enumerate(others)
    ]
    best, baseline, partner = (torch.stack([parts[k] for parts in results]) for k in range(3))
    partner_sizes = tuple(total.units for total in own[0])
    return ExcessCorrelation(
        (best - baseline).mean(0), best, baseline, partner, readers[0].layers, sizes, partner_sizes, own[0][0].samples
    )


def _strongest(
    cross: dict[tuple[int, int], UnitCorrelation],
    own: list[UnitCorrelation],
    count: int,
    same: bool,
    precision: torch.dtype,
    seed: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Best correlation, best in a random basis, and the partner, of each neuron of the model; a layer at a time."""
    best: list[list[Tensor]] = [[] for _ in range(count)]
    partner: list[list[Tensor]] = [[] for _ in range(count)]
    baseline: list[list[Tensor]] = [[] for _ in range(count)]
    start = 0
    for j, total in enumerate(own):
        inner = total.table()
        turn = random_rotation(len(inner.std_b), seed + j, precision).to(inner.matrix.device)
        weighted = (inner.std_b * turn).to(precision)  # new units as sums of standardised old ones
        deviation = (weighted @ inner.matrix.to(precision) * weighted).sum(1).clamp_min(0).sqrt()
        for i in range(count):
            if (i, j) in cross:
                matrix = inner.matrix if same and i == j else cross[i, j].table().matrix
                value, at = matrix.max(1)
                best[i].append(value)
                partner[i].append(at + start)
                turned = matrix.to(precision) @ weighted.T * inverse(deviation)
                baseline[i].append(turned.amax(1).clamp_max(1).to(value))
        start += len(inner.std_b)
    found = []
    for i in range(count):
        value, which = torch.stack(best[i]).max(0)
        chosen = torch.stack(partner[i]).gather(0, which[None])[0]
        found.append((value, torch.stack(baseline[i]).amax(0), chosen))
    values, baselines, partners = (torch.cat([parts[k] for parts in found]) for k in range(3))
    return values, baselines, partners


def _read(reader: Units, batch: Any, keep: Tensor | None) -> list[Tensor]:
    """Rows of kept tokens by neurons, for each layer."""
    return [
        rows(part.flatten(2) if part.dim() > 2 else part[:, :, None], keep) for part in reader.samples(batch).values()
    ]


def _check_memory(sizes: tuple[int, ...], share: float, siblings: int, memory: float) -> None:
    needed = siblings * 8 * (share * sum(sizes) ** 2 + sum(size**2 for size in sizes)) / 2**30
    if needed > memory:
        raise ValueError(
            f"the correlations of {sum(sizes):,} neurons take {needed:.1f} GiB, more than memory={memory:g}; name "
            "fewer layers, use pairs='matching', or raise memory"
        )


def _same_vocabulary(model: nn.Module, other: nn.Module) -> None:
    """Raises ValueError where the embeddings count different tokens."""
    sizes = [
        next((m.num_embeddings for m in part.modules() if isinstance(m, nn.Embedding)), None) for part in (model, other)
    ]
    if sizes[0] != sizes[1]:
        raise ValueError(f"the model knows {sizes[0]} tokens and a sibling {sizes[1]}; both must read the same ids")
