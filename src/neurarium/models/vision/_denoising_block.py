"""The convolutional block of NoProp (Li, Teh and Pascanu, 2025, Fig. 6)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from neurarium.layers.denoising._denoising_head import LabelDenoiser


class DenoisingBlock(LabelDenoiser):
    """Images and a noised label embedding to scores over the classes: convolutions, then Fig. 6's fully connected part.

    Each convolution (3 x 3, then ReLU, 2 x 2 max pooling and dropout) halves the image; a stack of ``stride=2``
    convolutions does the same at a quarter of the cost. ``forward(z, x)``, or ``forward(z, x, t)`` where timed, gives
    [batch, out_features].

    Args:
        in_shape: channels, height and width of an image.
        embed_dim: d, the size of z [batch, d].
        out_features: number of classes for scores, d for an embedding.
        channels: of each convolution.
        width: size of the fully connected layers.
        dropout: probability after each convolution.
        stride: 1: convolve, then pool; 2: strided convolutions instead of pooling.
        timed: take the time too, without batch normalisation.

    Raises:
        ValueError: the images are too small for that many halvings.
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        embed_dim: int,
        out_features: int,
        *,
        channels: Sequence[int] = (32, 64, 128),
        width: int = 256,
        dropout: float = 0.2,
        stride: int = 1,
        timed: bool = False,
    ) -> None:
        if min(in_shape[1:]) < 2 ** len(channels):
            raise ValueError(f"images of {in_shape[1]} x {in_shape[2]} cannot be halved {len(channels)} times")
        layers: list[nn.Module] = []
        before = in_shape[0]
        for count in channels:
            layers += [nn.Conv2d(before, count, 3, stride=stride, padding=1), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if stride == 1 else []
            layers += [nn.Dropout(dropout)] if dropout else []
            before = count
        body = nn.Sequential(*layers)
        with torch.no_grad():
            in_features = body.eval()(torch.zeros(1, *in_shape)).numel()
        norm = None if timed else nn.BatchNorm1d
        super().__init__(body.train(), in_features, embed_dim, out_features, width=width, norm=norm, timed=timed)
