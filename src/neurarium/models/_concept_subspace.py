"""A classifier of several concepts, each with a subspace of one latent space, that are made independent or nested."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, nll_loss

from neurarium.layers import PrototypeSubspace
from neurarium.objectives import subspace_alignment

MISSING = -1


@dataclass(frozen=True)
class ConceptWeights:
    """How much each loss of a concept counts.

    Args:
        classification: cross-entropy.
        near: mean distance of an encoding to its nearest prototype.
        cover: mean distance of a prototype to its nearest encoding.
        kl: divergence of the encoding from a unit Gaussian around the concept's subspace; needs ``variational``.
    """

    classification: float = 1.0
    near: float = 1.0
    cover: float = 1.0
    kl: float = 0.0


class ConceptSubspaceNetwork(nn.Module):
    """Prototype classifier with one subspace per concept (Tucker and Shah, arXiv 2205.13997).

    Every concept (digit, parity, a protected attribute) is classified by distances to its prototypes within the
    subspace they span. A positive relation between two concepts pushes their subspaces to be orthogonal, which makes
    the concepts independent (fair); a negative one pushes them to be parallel, which makes one refine the other
    (hierarchical). With ``subspace=False`` and one concept it is a prototype classification network; with a
    ``hierarchy`` a hierarchical prototype network.

    Args:
        encoder: maps inputs to ``[batch, 2 * latent_dim]`` (mean, log variance), or ``[batch, latent_dim]`` if not
            ``variational``.
        latent_dim: Z.
        concepts: name -> number of classes.
        relations: pair of names -> weight of their subspaces' alignment in the loss.
        weights: name -> weights of its losses; `ConceptWeights()` where a name is missing.
        decoder: maps ``[batch, latent_dim]`` back to inputs; None for none.
        reconstruction: weight of its squared error.
        variational: draw latents around the mean in training; evaluation uses the mean.
        duplication: prototypes per class.
        subspace: measure distances inside subspaces.
        statistic: of the alignment, ``"mean"`` or ``"max"`` (see `subspace_alignment`).
        hierarchy: fine concept -> (coarse concept, coarse class of each fine class): the fine concept is learned given
            its true parent and predicted as p(coarse) p(fine | coarse).

    Raises:
        ValueError: a concept with fewer than two classes, or an unknown concept in relations, weights or hierarchy.

    Warns:
        UserWarning: two concepts are to be orthogonal but have more dimensions together than the latent space.
    """

    def __init__(
        self,
        encoder: nn.Module,
        latent_dim: int,
        concepts: Mapping[str, int],
        relations: Mapping[tuple[str, str], float] | None = None,
        *,
        weights: Mapping[str, ConceptWeights] | None = None,
        decoder: nn.Module | None = None,
        reconstruction: float = 1.0,
        variational: bool = True,
        duplication: int = 1,
        subspace: bool = True,
        statistic: str = "mean",
        hierarchy: Mapping[str, tuple[str, Sequence[int]]] | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.latent_dim, self.variational = latent_dim, variational
        self.reconstruction, self.statistic = reconstruction, statistic
        self.duplication, self.subspace = duplication, subspace
        self.concepts = nn.ModuleDict()
        self.relations: dict[tuple[str, str], float] = {}
        self.weights: dict[str, ConceptWeights] = {}
        self.hierarchy: dict[str, tuple[str, tuple[int, ...]]] = {}
        for name, classes in concepts.items():
            self.add_concept(name, classes, weights=(weights or {}).get(name))
        for (a, b), weight in (relations or {}).items():
            self.relate(a, b, weight)
        for name in weights or {}:
            self._known(name, "weights")
        for fine, (coarse, parents) in (hierarchy or {}).items():
            if len(parents) != self._known(fine, "hierarchy").num_classes:
                raise ValueError(f"hierarchy of {fine!r} must name the parent of each of its classes")
            if not all(0 <= p < self._known(coarse, "hierarchy").num_classes for p in parents):
                raise ValueError(f"hierarchy of {fine!r} names a parent that is no class of {coarse!r}")
            self.hierarchy[fine] = (coarse, tuple(parents))

    def add_concept(self, name: str, num_classes: int, weights: ConceptWeights | None = None) -> PrototypeSubspace:
        """A further concept, also after training: freeze the encoder (``requires_grad_(False)``) and train on.

        Raises:
            ValueError: the name is taken, or fewer than two classes.
        """
        if name in self.concepts:
            raise ValueError(f"there is a concept {name!r} already")
        if num_classes < 2:
            raise ValueError(f"concept {name!r} needs at least 2 classes, not {num_classes}")
        like = next(self.encoder.parameters(), torch.zeros(()))
        layer = PrototypeSubspace(
            self.latent_dim, num_classes, self.duplication, subspace=self.subspace, device=like.device, dtype=like.dtype
        )
        self.concepts[name] = layer
        self.weights[name] = weights or ConceptWeights()
        return layer

    def relate(self, a: str, b: str, weight: float) -> None:
        """Weight of the alignment of two concepts' subspaces: positive for orthogonal, negative for parallel ones.

        Raises:
            ValueError: an unknown concept, or twice the same.
        """
        dims = [self._known(name, "relations").dim for name in (a, b)]
        if a == b:
            raise ValueError(f"a relation needs two concepts, not {a!r} twice")
        if weight > 0 and sum(dims) > self.latent_dim:
            warnings.warn(
                f"{a!r} and {b!r} cannot be orthogonal: {dims[0]} + {dims[1]} dimensions in {self.latent_dim}",
                stacklevel=2,
            )
        self.relations[a, b] = weight

    def prototypes(self, name: str) -> Tensor:
        """A concept's prototypes, ``[classes * duplication, latent_dim]``."""
        return self._known(name, "the request").prototypes

    def basis(self, name: str) -> Tensor:
        """Orthonormal basis of a concept's subspace, ``[latent_dim, dim]``."""
        return self._known(name, "the request").basis()

    def project(self, name: str, z: Tensor) -> Tensor:
        """The nearest points of a concept's subspace to latents ``[batch, latent_dim]``: all it can see of them."""
        return self._known(name, "the request").project(z)

    def alignment(self) -> dict[tuple[str, str], Tensor]:
        """Mean alignment of every pair of concepts, whether it is in the loss or not."""
        bases = {name: self.basis(name) for name in self.concepts}
        return {(a, b): subspace_alignment(bases[a], bases[b]) for a, b in itertools.combinations(bases, 2)}

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and log variance of the latent, ``[batch, latent_dim]`` each; no variance if not ``variational``.

        Raises:
            ValueError: the encoder gives another number of features.
        """
        encoded = self.encoder(x)
        expected = self.latent_dim * (2 if self.variational else 1)
        if encoded.shape[-1] != expected:
            raise ValueError(f"the encoder must give {expected} features, not {encoded.shape[-1]}")
        if not self.variational:
            return encoded, None
        mean, log_variance = encoded.chunk(2, -1)
        return mean, log_variance

    def sample(self, mean: Tensor, log_variance: Tensor | None) -> Tensor:
        """The latent: drawn around the mean in training, the mean itself in evaluation."""
        if log_variance is None or not self.training:
            return mean
        return mean + (log_variance / 2).exp() * torch.randn_like(mean)

    def classify(self, z: Tensor) -> dict[str, Tensor]:
        """Log-probabilities of every concept's classes at a latent ``[batch, latent_dim]``."""
        single = {name: layer(z) for name, layer in self._layers()}
        return {name: self._joint(name, single) for name in single}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Log-probabilities ``[batch, classes]`` by concept."""
        return self.classify(self.sample(*self.encode(x)))

    def losses(self, x: Tensor, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All terms of the loss, weighted, by name (``"digit/classification"``, ``"reconstruction"``, ...).

        Args:
            x: inputs.
            targets: concept -> classes ``[batch]``; -1, or no entry for the concept, where the label is missing.

        Raises:
            ValueError: an unknown concept, targets that are no whole numbers, or a class out of its range.
        """
        for name, target in targets.items():
            self._known(name, "targets")
            if target.is_floating_point() or target.is_complex():
                missing = " (and -1, not NaN, where the label is missing)" if bool(target.isnan().any()) else ""
                raise ValueError(f"targets of concept {name!r} must be class indices{missing}, not {target.dtype}")
        mean, log_variance = self.encode(x)
        z = self.sample(mean, log_variance)
        bases = {name: layer.basis() for name, layer in self._layers()}
        terms: dict[str, Tensor] = {}
        if log_variance is not None and any(weights.kl for weights in self.weights.values()):
            spread = (1 + log_variance - log_variance.exp()).mean()  # the part of the divergence that concepts share
        for name, layer in self._layers():
            weights = self.weights[name]
            distances = layer.distances(z, bases[name])
            if name in targets and weights.classification:
                term = self._classification(name, layer.log_probabilities(distances), targets[name])
                terms[f"{name}/classification"] = weights.classification * term
            if weights.near:
                terms[f"{name}/near"] = weights.near * distances.amin(1).mean()
            if weights.cover:
                terms[f"{name}/cover"] = weights.cover * distances.amin(0).mean()
            if weights.kl and log_variance is not None:
                offset = layer.residual(mean, bases[name]).square().mean()
                terms[f"{name}/kl"] = weights.kl * 0.5 * (offset - spread)
        for (a, b), weight in self.relations.items():
            if weight:
                terms[f"{a}~{b}"] = weight * subspace_alignment(bases[a], bases[b], self.statistic)
        if self.decoder is not None and self.reconstruction:
            terms["reconstruction"] = self.reconstruction * mse_loss(self.decoder(z), x)
        return terms

    def loss(self, x: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """The sum of `losses`.

        Raises:
            ValueError: as `losses`, or there is no term at all.
        """
        terms = self.losses(x, targets)
        if not terms:
            raise ValueError("no term of the loss has a weight: give targets, or weights that are not all 0")
        return torch.stack(list(terms.values())).sum()

    def _layers(self) -> list[tuple[str, PrototypeSubspace]]:
        return [(name, layer) for name, layer in self.concepts.items() if isinstance(layer, PrototypeSubspace)]

    def _known(self, name: str, where: str) -> PrototypeSubspace:
        if name not in self.concepts:
            raise ValueError(f"unknown concept {name!r} in {where}; there are {', '.join(self.concepts)}")
        layer = self.concepts[name]
        if not isinstance(layer, PrototypeSubspace):
            raise TypeError(f"concept {name!r} must be a PrototypeSubspace, not {type(layer).__name__}")
        return layer

    def _classification(self, name: str, log_probabilities: Tensor, target: Tensor) -> Tensor:
        """Mean cross-entropy over the labels that are there; 0 where there is none."""
        classes = log_probabilities.shape[1]
        if bool(((target < MISSING) | (target >= classes)).any()):
            raise ValueError(f"targets of concept {name!r} must lie in 0..{classes - 1} (or -1 for missing)")
        if name in self.hierarchy:
            log_probabilities = self._among_siblings(name, log_probabilities)
        total = nll_loss(log_probabilities, target.long(), ignore_index=MISSING, reduction="sum")
        return total / (target != MISSING).sum().clamp_min(1)

    def _among_siblings(self, fine: str, log_probabilities: Tensor) -> Tensor:
        """log p(fine | its parent)."""
        parents = torch.tensor(self.hierarchy[fine][1], device=log_probabilities.device)
        return log_probabilities - _pool(log_probabilities, parents)[:, parents]

    def _joint(self, name: str, single: Mapping[str, Tensor]) -> Tensor:
        if name not in self.hierarchy:
            return single[name]
        coarse, parents = self.hierarchy[name]
        return self._among_siblings(name, single[name]) + self._joint(coarse, single)[:, list(parents)]


def _pool(log_probabilities: Tensor, parents: Tensor) -> Tensor:
    """Log-probabilities of parents as sums over their children; minus infinity for a parent without any."""
    siblings = torch.arange(int(parents.max()) + 1, device=parents.device).unsqueeze(1) == parents
    spread = log_probabilities.unsqueeze(1).masked_fill(~siblings, -torch.inf)
    return spread.logsumexp(2)
