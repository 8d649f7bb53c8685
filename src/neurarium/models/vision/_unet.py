"""U-Net: an encoder and a decoder with what the encoder saw handed across (Ronneberger et al., 2015)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.layers import DenseTransformer, conv_norm_act


class UNet(nn.Module):
    """Levels of two 3 x 3 convolutions, max pooling down, transposed convolutions up, concatenation across.

    With a `DenseTransformer` the map behind the first convolution of a level is bent, and the map behind the first
    convolution of that level on the way up is bent back; what is handed across at finer levels is not bent.

    Args:
        in_channels: of the images.
        num_classes: outputs for each pixel.
        channels: of each level, from fine to coarse.
        transformer: a `DenseTransformer` for the map of its level, or a module with ``encode`` and ``decode`` like it.
        transformer_at: its level, 0 for the finest; not the coarsest, which has no way up.

    Raises:
        ValueError: one level only, or a ``transformer_at`` that is no level with a way up.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        channels: Sequence[int] = (64, 128, 256, 512, 1024),
        transformer: DenseTransformer | None = None,
        transformer_at: int = 3,
    ) -> None:
        super().__init__()
        if len(channels) < 2:
            raise ValueError("channels must name two levels at least")
        if transformer is not None and not 0 <= transformer_at < len(channels) - 1:
            raise ValueError(f"transformer_at must be a level from 0 to {len(channels) - 2}, not {transformer_at}")
        before = (in_channels, *channels[:-1])
        self.down = nn.ModuleList(conv_norm_act(a, b, 3) for a, b in zip(before, channels, strict=True))
        self.down_again = nn.ModuleList(conv_norm_act(c, c, 3) for c in channels)
        self.lift = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in itertools.pairwise(channels))
        self.up = nn.ModuleList(conv_norm_act(2 * c, c, 3) for c in channels[:-1])
        self.up_again = nn.ModuleList(conv_norm_act(c, c, 3) for c in channels[:-1])
        self.transformer = transformer
        self.transformer_at = transformer_at
        self.head = nn.Conv2d(channels[0], num_classes, 1)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes height width"]:
        """Logits for each pixel.

        Raises:
            ValueError: height or width cannot be halved as often as there are poolings.
        """
        poolings = len(self.down) - 1
        if x.shape[2] % 2**poolings or x.shape[3] % 2**poolings:
            raise ValueError(f"height and width must be multiples of {2**poolings}, not {tuple(x.shape[2:])}")
        grid, across = None, []
        for index, (first, second) in enumerate(zip(self.down, self.down_again, strict=True)):
            x = first(x if index == 0 else nn.functional.max_pool2d(x, 2))
            if self.transformer is not None and index == self.transformer_at:
                x, grid = self.transformer.encode(x)
            x = second(x)
            across.append(x)
        for index in reversed(range(poolings)):
            x = self.up[index](torch.cat([across[index], self.lift[index](x)], 1))
            if self.transformer is not None and grid is not None and index == self.transformer_at:
                x = self.transformer.decode(x, grid)
            x = self.up_again[index](x)
        return self.head(x)
