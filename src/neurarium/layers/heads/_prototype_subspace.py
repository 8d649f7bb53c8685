"""Classification by distances to prototypes, measured inside the affine subspace that the prototypes span."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

JITTER = 1e-6
WORST_CONDITION = 1e5


class PrototypeSubspace(nn.Module):
    """Log-probabilities from squared distances to prototypes: ``softmax(-d)`` (arXiv 2205.13997, section 3.1).

    The prototypes p_0 ... p_(n-1) span an affine subspace of n - 1 dimensions; a point is projected to
    ``p_0 + Q Q^T (z - p_0)`` and compared there. What a point has outside the subspace is of no account here:
    other concepts can use it. With n - 1 >= in_features the subspace is the whole space.

    Args:
        in_features: Z, dimensions of a point.
        num_classes: classes.
        duplication: prototypes per class; their probabilities add up.
        subspace: False measures distances in the whole space (a prototype classification network).
        scale: prototypes start uniformly within +-scale.
        generator: source of the initial prototypes.
        device: of the prototypes.
        dtype: of the prototypes.

    Raises:
        ValueError: fewer than two classes, or no prototype or dimension.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        duplication: int = 1,
        *,
        subspace: bool = True,
        scale: float = 0.05,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, not {num_classes}")
        if duplication < 1 or in_features < 1:
            raise ValueError(f"duplication ({duplication}) and in_features ({in_features}) must be at least 1")
        self.in_features, self.num_classes, self.duplication = in_features, num_classes, duplication
        self.subspace = subspace
        start = torch.empty(num_classes * duplication, in_features, device=device, dtype=dtype)
        self.prototypes = nn.Parameter(start.uniform_(-scale, scale, generator=generator))

    @property
    def dim(self) -> int:
        """Dimensions of the subspace."""
        return min(len(self.prototypes) - 1, self.in_features)

    def basis(self) -> Tensor:
        """Orthonormal columns Q, ``[in_features, dim]``, with gradient; the identity where they span everything.

        A tiny multiple of the identity is added first, so that coinciding prototypes give a basis and finite gradients.
        """
        p = self.prototypes
        if not self.subspace or len(p) - 1 >= self.in_features:
            return torch.eye(self.in_features, device=p.device, dtype=p.dtype)
        differences = (p[1:] - p[0]).T
        size = differences.detach().abs().max()
        size = torch.where(size > 0, size, 1.0)
        jitter = torch.eye(*differences.shape, device=p.device, dtype=p.dtype) * size * JITTER
        q, r = torch.linalg.qr(differences + jitter)
        diagonal = r.detach().diagonal().abs()
        if float(diagonal.max()) > WORST_CONDITION * float(diagonal.min()):
            warnings.warn("prototypes nearly coincide or line up: their subspace is ill-conditioned", stacklevel=2)
        return q

    def project(self, z: Tensor, basis: Tensor | None = None) -> Tensor:
        """The nearest point of the subspace, ``[..., in_features]``."""
        q = self.basis() if basis is None else basis
        origin = self.prototypes[0]
        return origin + (z - origin) @ q @ q.T

    def distances(self, z: Tensor, basis: Tensor | None = None) -> Tensor:
        """Squared distances to every prototype inside the subspace, ``[..., num_classes * duplication]``."""
        q = self.basis() if basis is None else basis
        origin = self.prototypes[0].detach()  # distances do not depend on it, but their digits do
        point, prototype = (z - origin) @ q, (self.prototypes - origin) @ q
        squares = point.square().sum(-1, keepdim=True) + prototype.square().sum(-1)
        return (squares - 2 * point @ prototype.T).clamp_min(0)

    def log_probabilities(self, distances: Tensor) -> Tensor:
        """``log softmax(-distances)``, summed over the prototypes of a class: ``[..., num_classes]``."""
        scores = (-distances).log_softmax(-1)
        if self.duplication == 1:
            return scores
        return scores.unflatten(-1, (self.num_classes, self.duplication)).logsumexp(-1)

    def forward(self, z: Tensor) -> Tensor:
        """Log-probabilities of the classes, ``[..., in_features] -> [..., num_classes]``."""
        return self.log_probabilities(self.distances(z))

    def residual(self, mean: Tensor, basis: Tensor | None = None, temperature: float = 0.1) -> Tensor:
        """What a point has outside the subspace; without subspaces, its offset from the prototypes it is near.

        The offsets are weighted by ``softmax(-distances / temperature)``; inside the subspace's complement they agree.
        """
        if self.subspace:
            return mean - self.project(mean, basis)
        weights = (-self.distances(mean, basis) / temperature).softmax(-1)
        return mean - weights @ self.prototypes
