"""Wide residual networks for small images."""

from __future__ import annotations

import itertools

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu


class WideBlock(nn.Module):
    """Normalisation, rectifier and 3 x 3 convolution, twice, around a shortcut.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        stride: of the first convolution and, where the shape changes, of the shortcut's.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        same = in_channels == out_channels and stride == 1
        self.shortcut = None if same else nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Float[Tensor, "batch in height width"]) -> Float[Tensor, "batch out height2 width2"]:
        """Halves the sides where the stride is 2."""
        h = relu(self.norm1(x))
        around = x if self.shortcut is None else self.shortcut(h)
        return around + self.conv2(relu(self.norm2(self.conv1(h))))


class WideResNet(nn.Module):
    """WRN-depth-width (Zagoruyko and Komodakis, 2016): three stages of pre-activation blocks, 16, 32 and 64 times wide.

    Args:
        depth: layers, 6 n + 4 for n blocks per stage; 28 by default.
        width: factor on the channels; 10 by default.
        in_channels: of the images.
        num_classes: outputs.

    Raises:
        ValueError: the depth is not of the form 6 n + 4.
    """

    def __init__(self, depth: int = 28, width: int = 10, *, in_channels: int = 3, num_classes: int = 10) -> None:
        super().__init__()
        if depth < 10 or depth % 6 != 4:
            raise ValueError(f"depth must be 6 n + 4 (10, 16, 22, 28, ...), not {depth}")
        channels = [16, 16 * width, 32 * width, 64 * width]
        self.conv = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        blocks = [
            WideBlock(before if i == 0 else after, after, stride if i == 0 else 1)
            for (before, after), stride in zip(itertools.pairwise(channels), (1, 2, 2), strict=True)
            for i in range((depth - 4) // 6)
        ]
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(channels[-1])
        self.head = nn.Linear(channels[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Logits."""
        return self.head(relu(self.norm(self.blocks(self.conv(x)))).mean((2, 3)))
