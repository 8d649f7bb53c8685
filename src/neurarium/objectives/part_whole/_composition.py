"""A whole's embedding from those of its parts, and back."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import mse_loss, normalize


class ComposeHead(nn.Module):
    """The whole from its parts, which are given in the order of the grid.

    Args:
        feature_dim: width of an embedding.
        num_parts: P.
    """

    def __init__(self, feature_dim: int, num_parts: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(num_parts * feature_dim, feature_dim), nn.ReLU(), nn.Linear(feature_dim, feature_dim)
        )

    def forward(self, parts: Float[Tensor, "batch parts features"]) -> Float[Tensor, "batch features"]:
        """Embeddings of wholes."""
        whole: Tensor = self.layers(parts.flatten(1))
        return whole


class DecomposeHead(nn.Module):
    """The parts from their whole, in the order of the grid.

    Args:
        feature_dim: width of an embedding.
        num_parts: P.
    """

    def __init__(self, feature_dim: int, num_parts: int) -> None:
        super().__init__()
        self.num_parts = num_parts
        self.layers = nn.Sequential(
            nn.Linear(feature_dim, feature_dim), nn.ReLU(), nn.Linear(feature_dim, num_parts * feature_dim)
        )

    def forward(self, whole: Float[Tensor, "batch features"]) -> Float[Tensor, "batch parts features"]:
        """Embeddings of parts."""
        parts: Tensor = self.layers(whole)
        return parts.unflatten(1, (self.num_parts, -1))


def composition_loss(
    composed: Float[Tensor, "batch features"], whole: Float[Tensor, "batch features"]
) -> Float[Tensor, ""]:
    """Mean squared difference of unit vectors, 2 (1 - cosine) / features; no gradient goes into ``whole``."""
    return mse_loss(normalize(composed, dim=1), normalize(whole.detach(), dim=1))


def decomposition_loss(
    decomposed: Float[Tensor, "batch parts features"],
    parts: Float[Tensor, "batch parts features"],
    joint: bool = True,
) -> Float[Tensor, ""]:
    """Mean squared difference to the parts as unit vectors; no gradient goes into ``parts``.

    Args:
        decomposed: what the head makes of the whole.
        parts: the teacher's embeddings.
        joint: divide all slices of a whole by one norm, as released: each slice then has a length of about 1 / sqrt(P)
            and its direction is learned. Otherwise each by its own.
    """
    if joint:
        decomposed = normalize(decomposed.flatten(1), dim=1).view_as(decomposed)
    else:
        decomposed = normalize(decomposed, dim=2)
    return mse_loss(decomposed, normalize(parts.detach(), dim=2))


def stacked(parts: Float[Tensor, "several features"], num_parts: int) -> Float[Tensor, "batch parts features"]:
    """Rows that come part by part, as wholes with their parts."""
    return torch.stack(parts.chunk(num_parts), 1)
