"""Which representations of a group a network's logits, embeddings and hidden layer are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.data import FiniteGroup
from neurarium.probes._result import ProbeResult
from neurarium.probes.groups._pairs import WordFunctions, answers, element_tables, shares, table_shares
from neurarium.training import evaluation


@dataclass(frozen=True)
class RepresentationEvidence(ProbeResult):
    """How much of a network is explained by each representation ρ.

    Args:
        irreps: names of the representations, the trivial one first.
        similarity: mean over pairs of the cosine between the centred logits and c -> χ_ρ(w c⁻¹), w the word's value.
        key: representations whose similarity is above the threshold.
        faithful: whether the key representations together tell all elements apart.
        weights: of each χ_ρ in the least-squares fit of the centred logits.
        explained: share of the centred logits' variance that each χ_ρ explains.
        tables: for each table of elements (embeddings, read-out), the share of its squared norm in the span of ρ(g).
        hidden: for the words "a", "b" and the word itself, the share of the hidden layer's variance over pairs in the
            span of ρ(value); empty where no layer was named.
        accuracy: of the network on all pairs.
        loss: its cross-entropy on all pairs.
        restricted_accuracy: where its logits are replaced by the fit with the key representations alone.
        restricted_loss: cross-entropy then.
    """

    irreps: tuple[str, ...]
    similarity: Float[Tensor, " irreps"]
    key: tuple[str, ...]
    faithful: bool
    weights: Float[Tensor, " irreps"]
    explained: Float[Tensor, " irreps"]
    tables: Mapping[str, Float[Tensor, " irreps"]]
    hidden: Mapping[str, Float[Tensor, " irreps"]]
    accuracy: float
    loss: float
    restricted_accuracy: float
    restricted_loss: float

    @property
    def logit_fve(self) -> float:
        """Share of the centred logits' variance that the key representations explain together."""
        return float(sum(self.explained[self.irreps.index(name)] for name in self.key))

    def summary(self) -> str:
        """Key representations with similarity, and what they explain."""
        keys = ", ".join(f"{name} ({float(self.similarity[self.irreps.index(name)]):.2f})" for name in self.key)
        told = "faithful" if self.faithful else "not faithful"
        lines = [
            f"key representations: {keys or 'none'}; {told} together",
            f"they explain {self.logit_fve:.1%} of the logits' variance; alone they give accuracy "
            f"{self.restricted_accuracy:.3f} (network: {self.accuracy:.3f})",
        ]
        for word, share in self.hidden.items():
            lines.append(f"hidden layer: {float(share[1:].sum()):.1%} of the variance is a function of {word}")
        return "\n".join(lines)

    def plot(self, ax: Any) -> Any:
        """Similarity and share of explained variance for each representation."""
        places = torch.arange(len(self.irreps)).numpy()
        ax.bar(places - 0.2, self.similarity.cpu(), 0.4, label="similarity of the logits")
        ax.bar(places + 0.2, self.explained.cpu(), 0.4, label="variance explained")
        ax.set_xticks(places, self.irreps)
        ax.set(xlabel="representation")
        ax.legend()
        return ax


@torch.no_grad()
def representation_evidence(
    model: nn.Module,
    group: FiniteGroup,
    *,
    word: str = "ab",
    hidden: str | None = None,
    tables: Mapping[str, Tensor] | None = None,
    threshold: float = 0.05,
    batch_size: int = 8192,
) -> RepresentationEvidence:
    """The evidence of Chughtai et al. (arXiv 2302.03025, section 5) for any network that computes in a group.

    Args:
        model: takes pairs of elements [batch, 2], gives a logit for every element; left as it was.
        group: the group whose product it computes.
        word: what it computes, ``"ab"`` for the product.
        hidden: a layer to look at: a module's name, or ``"name:input"`` for what enters it.
        tables: what the network holds of each element, [order, width] each, by name; by default what its method
            ``element_tables()`` gives, if it has one.
        threshold: similarity above which a representation is key.
        batch_size: pairs at once.

    Raises:
        ValueError: the group is too large, the model gives another number of logits, a table has another number of
            rows, an unknown layer or a word with other letters.
    """
    fibre = group.word(word).flatten()
    sums, unit_sums = (torch.zeros(group.order, group.order, dtype=torch.float64) for _ in range(2))
    energy, loss, right, layer = torch.zeros((), dtype=torch.float64), 0.0, 0, []
    with evaluation(model):
        for rows, logits, seen in answers(model, group, hidden, batch_size):
            centred = logits - logits.mean(1, keepdim=True)
            norms = centred.norm(dim=1, keepdim=True)
            sums.index_add_(0, fibre[rows], centred)
            unit_sums.index_add_(0, fibre[rows], centred / norms.clamp_min(1e-300))
            energy += centred.square().sum()
            loss += float(cross_entropy(logits, fibre[rows], reduction="sum"))
            right += int((logits.argmax(1) == fibre[rows]).sum())
            layer += [seen] if seen is not None else []
    pairs = len(fibre)
    counts = torch.bincount(fibre, minlength=group.order).double()
    similarity, weights, explained, traces = _fits(group, sums, unit_sums, counts, energy)
    key = tuple(irrep.name for irrep, s in zip(group.irreps, similarity) if s > threshold)
    chosen = [i for i, irrep in enumerate(group.irreps) if irrep.name in key]
    fit = torch.einsum("i,igc->gc", weights[chosen], traces[chosen])
    return RepresentationEvidence(
        irreps=tuple(irrep.name for irrep in group.irreps),
        similarity=similarity,
        key=key,
        faithful=group.faithful(key),
        weights=weights,
        explained=explained,
        tables={name: table_shares(table, group) for name, table in element_tables(model, tables).items()},
        hidden=_hidden_shares(group, word, torch.cat(layer)) if layer else {},
        accuracy=right / pairs,
        loss=loss / pairs,
        restricted_accuracy=float(counts @ _certain(fit)) / pairs,
        restricted_loss=float(counts @ cross_entropy(fit, torch.arange(group.order), reduction="none")) / pairs,
    )


def _fits(
    group: FiniteGroup, sums: Tensor, unit_sums: Tensor, counts: Tensor, energy: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Similarity, weight and share of variance of each representation, and χ(g c⁻¹) [irreps, g, c], 0 for the trivial.

    The traces of different representations are orthogonal in c for every pair, so each is fitted by itself.
    """
    quotient = group.table[:, group.inverse]
    traces = group.characters[:, quotient]
    traces[0] = 0.0  # constant in c, which centring removes
    norms = traces[:, 0].square().sum(1).sqrt().clamp_min(1e-150)  # the same for every g
    similarity = torch.einsum("gc,igc->i", unit_sums, traces) / norms / counts.sum()
    inner, squares = torch.einsum("gc,igc->i", sums, traces), norms.square() * counts.sum()
    explained = inner.square() / squares / energy if energy > 0 else torch.zeros_like(inner)
    return similarity, inner / squares, explained, traces


def _certain(fit: Tensor) -> Tensor:
    """Where the diagonal is the largest of its row by itself."""
    others = fit.clone()
    others.diagonal().fill_(-torch.inf)
    return (fit.diagonal() > others.amax(1) + 1e-9).double()


def _hidden_shares(group: FiniteGroup, word: str, seen: Tensor) -> dict[str, Tensor]:
    centred = seen - seen.mean(0)
    energy = centred.square().sum()
    return {w: shares(WordFunctions(group, w).coefficients(centred), energy) for w in dict.fromkeys(("a", "b", word))}
