"""A small vision transformer."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from neurarium.data import Arrays


class VisionTransformer(nn.Module):
    """Patches, positions, pre-norm transformer layers; the sum of the tokens is normed and read out.

    Args:
        image: an example [channels, side, side].
        num_classes: number of outputs.
        patch: side of a patch; divides the image's.
        d_model: width of the tokens.
        nhead: attention heads.
        num_layers: transformer layers.
        dim_feedforward: width of their feed-forward networks.
    """

    def __init__(
        self, image: Tensor, num_classes: int, patch: int, d_model: int, nhead: int, num_layers: int,
        dim_feedforward: int,
    ) -> None:  # fmt: skip
        super().__init__()
        channels, side, _ = image.shape
        self.patch = patch
        self.embed = nn.Linear(channels * patch**2, d_model)
        self.positions = nn.Parameter(torch.randn((side // patch) ** 2, d_model) / 2**0.5)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(d_model, nhead, dim_feedforward, 0.0, batch_first=True, norm_first=True)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images [batch, channels, side, side]."""
        tokens = self.embed(unfold(images, self.patch, stride=self.patch).mT) + self.positions
        for layer in self.layers:
            tokens = layer(tokens)
        return self.head(self.norm(tokens.sum(1)))


def as_images(part: Arrays) -> Arrays:
    """The arrays with images [n, channels, side, side]."""
    x = part.x
    if x.ndim == 2:
        side = math.isqrt(x.shape[1])
        x = x.unflatten(1, (1, side, side))
    return dataclasses.replace(part, x=x if x.ndim == 4 else x.unsqueeze(1))
