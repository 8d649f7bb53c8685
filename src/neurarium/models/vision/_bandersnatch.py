"""The residual network of four widths whose stages branch (ABN-2G-Rr), and its baseline."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from neurarium.layers.convolution._conv_norm_act import conv_norm_act
from neurarium.layers.residual._residual import Residual
from neurarium.models.branching._branching_network import BranchingNetwork


def bandersnatch(
    blocks: int = 3,
    num_classes: int = 10,
    branches: int | Sequence[int] = 2,
    *,
    widths: Sequence[int] = (64, 128, 256, 512),
    in_channels: int = 3,
    stem_stride: int = 1,
    activation: Callable[[], nn.Module] = nn.ReLU,
) -> BranchingNetwork:
    """ANDHRA Bandersnatch for small images (Daliparthi, 2024).

    A stem, then a stage of each width: from the second on a block that halves the sides, then ``blocks`` residual ones;
    the activation behind the last is the one that branches. Heads average over positions. With ``branches=1`` it is the
    baseline, and its only path an ordinary residual network.

    Args:
        blocks: r, residual blocks in each stage; 0 to 3 in the paper.
        num_classes: outputs.
        branches: copies behind each stage but the last, or for each.
        widths: channels of the stages.
        in_channels: of the images.
        stem_stride: of the first convolution; 2 for a quarter of the cost.
        activation: makes the activations that branch.
    """

    def rest(width: int) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for index in range(blocks):
            branch = nn.Sequential(conv_norm_act(width, width, 3), conv_norm_act(width, width, 3, activation=None))
            layers += [Residual(branch), *([nn.ReLU()] if index < blocks - 1 else [])]
        return layers

    def first() -> nn.Module:
        return nn.Sequential(conv_norm_act(in_channels, widths[0], 3, stem_stride), *rest(widths[0]))

    def later(before: int, after: int) -> Callable[[], nn.Module]:
        return lambda: nn.Sequential(Projection(before, after), *rest(after))

    def head() -> nn.Module:
        return nn.Sequential(activation(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], num_classes))

    stages = [first, *(later(a, b) for a, b in itertools.pairwise(widths))]
    return BranchingNetwork(stages, head, branches, activation)


class Projection(nn.Module):
    """A residual block that halves the sides: ReLU(two convolutions + a 1 x 1 convolution around them).

    Args:
        in_channels: of the input.
        out_channels: of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            conv_norm_act(in_channels, out_channels, 3, 2),
            conv_norm_act(out_channels, out_channels, 3, activation=None),
        )
        self.around = conv_norm_act(in_channels, out_channels, 1, 2, activation=None)

    def forward(self, x: Float[Tensor, "batch in height width"]) -> Float[Tensor, "batch out height2 width2"]:
        """The sum's positive part."""
        return (self.around(x) + self.branch(x)).relu()
