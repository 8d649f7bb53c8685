"""A convolutional network of patches: ConvMixer (Trockman and Kolter, 2022)."""

from __future__ import annotations

from torch import Tensor, nn


class Around(nn.Sequential):
    """Layers and a way around them."""

    def forward(self, x: Tensor) -> Tensor:
        """The input and what the layers make of it."""
        return x + super().forward(x)


def conv_mixer(image: Tensor, num_classes: int, patch: int, width: int, layers: int, kernel_size: int) -> nn.Module:
    """ConvMixer-width/layers: GELU and batch norm after every convolution, depthwise and pointwise in turn.

    Args:
        image: an example [channels, side, side].
        num_classes: number of outputs.
        patch: side of a patch; divides the image's.
        width: channels.
        layers: pairs of convolutions.
        kernel_size: of the depthwise convolutions, odd.
    """

    def normed(convolution: nn.Module) -> nn.Sequential:
        return nn.Sequential(convolution, nn.GELU(), nn.BatchNorm2d(width))

    parts = [normed(nn.Conv2d(image.shape[0], width, patch, patch))]
    for _ in range(layers):
        depthwise = nn.Conv2d(width, width, kernel_size, padding=kernel_size // 2, groups=width)
        parts += [Around(*normed(depthwise)), normed(nn.Conv2d(width, width, 1))]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))
