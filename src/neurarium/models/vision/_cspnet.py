"""Cross-stage partial networks (Wang et al., 2019) and the plain networks that they were made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from neurarium.layers import CrossStagePartial, DenseConnection, Residual, conv_norm_act

leaky = partial(nn.LeakyReLU, 0.1, inplace=True)
conv = partial(conv_norm_act, activation=leaky)


def dark_block(channels: int, ratio: float = 1.0, groups: int = 1) -> nn.Module:
    """Darknet's residual block: 1 x 1 to ``ratio`` times the channels, 3 x 3 back, added without an activation."""
    middle = round(ratio * channels)
    return Residual(nn.Sequential(conv(channels, middle), conv(middle, channels, 3, groups=groups)))


def bottleneck(channels: int, ratio: float = 1.0, groups: int = 1) -> nn.Module:
    """The residual block of ResNet and ResNeXt: 1 x 1, 3 x 3, 1 x 1 without activation; one behind the sum."""
    middle = round(ratio * channels)
    branch = nn.Sequential(
        conv(channels, middle), conv(middle, middle, 3, groups=groups), conv_norm_act(middle, channels, activation=None)
    )
    return nn.Sequential(Residual(branch), leaky())


def dense_block(channels: int, depth: int, growth: int = 32) -> DenseConnection:
    """DenseNet's block: ``depth`` pairs of 1 x 1 and 3 x 3 convolutions, each adding ``growth`` channels to its input.

    Args:
        channels: of the input.
        depth: pairs.
        growth: channels that each adds; its 1 x 1 convolution gives four times as many.
    """
    pairs = [nn.Sequential(conv(channels + i * growth, 4 * growth), conv(4 * growth, growth, 3)) for i in range(depth)]
    return DenseConnection(*pairs)


@dataclass(frozen=True)
class CSPStage:
    """One stage of a `CSPNet`.

    Args:
        channels: that the stage gives.
        depth: blocks in it.
        stride: of a 3 x 3 convolution before the blocks; 1 for no such convolution.
        block: "dark", "bottleneck" or "dense".
        ratio: channels in the middle of a residual block over those around it.
        groups: of all 3 x 3 convolutions.
        growth: of a dense block.
        expansion: channels before the split over ``channels``.
        widen: the strided convolution already gives ``channels``; otherwise it keeps its input's.
        is_partial: a cross-stage partial stage; otherwise all channels go through the blocks.
        fusion: where the transitions stand, as in `CrossStagePartial`.
        bypass: share of the channels that goes around the blocks.
    """

    channels: int
    depth: int
    stride: int = 2
    block: Literal["dark", "bottleneck", "dense"] = "dark"
    ratio: float = 1.0
    groups: int = 1
    growth: int = 32
    expansion: float = 1.0
    widen: bool = True
    is_partial: bool = True
    fusion: Literal["both", "first", "last"] = "both"
    bypass: float = 0.5

    def make(self, in_channels: int) -> nn.Module:
        """The stage for an input of so many channels."""
        wide = self.channels if self.widen else in_channels
        down: list[nn.Module] = (
            [] if self.stride == 1 and wide == in_channels else [conv(in_channels, wide, 3, self.stride, self.groups)]
        )
        if self.is_partial:
            expansion = None if self.block == "dense" else self.expansion * self.channels / wide
            stage: nn.Module = CrossStagePartial(
                self._blocks, wide, self.channels, self.bypass, self.fusion, expansion, activation=leaky
            )
        elif self.block == "dense":
            stage = nn.Sequential(self._blocks(wide), conv(wide + self.depth * self.growth, self.channels))
        else:
            stage = self._blocks(self.channels)
        return nn.Sequential(*down, stage)

    def _blocks(self, width: int) -> nn.Module:
        if self.block == "dense":
            return dense_block(width, self.depth, self.growth)
        make = dark_block if self.block == "dark" else bottleneck
        return nn.Sequential(*(make(width, self.ratio, self.groups) for _ in range(self.depth)))


class CSPNet(nn.Module):
    """A stem, stages, an average over all positions, a linear layer.

    Args:
        stages: in order; see `CSPStage`.
        stem: channels, kernel and stride of the first convolution; a stride of 2 is followed by max pooling.
        in_channels: of the images.
        num_classes: outputs.
    """

    def __init__(
        self,
        stages: Sequence[CSPStage],
        stem: tuple[int, int, int] = (32, 3, 1),
        *,
        in_channels: int = 3,
        num_classes: int = 1000,
    ) -> None:
        super().__init__()
        channels, kernel, stride = stem
        first: list[nn.Module] = [conv(in_channels, channels, kernel, stride)]
        self.stem = nn.Sequential(*first, *([nn.MaxPool2d(3, 2, 1)] if stride > 1 else []))
        made = []
        for stage in stages:
            made.append(stage.make(channels))
            channels = stage.channels
        self.stages = nn.Sequential(*made)
        self.head = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.1, nonlinearity="leaky_relu")

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Logits."""
        return self.head(self.stages(self.stem(x)).mean((2, 3)))


Make = Callable[..., CSPNet]
DARK = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))


def csp_darknet53(**options: Any) -> CSPNet:
    """CSPDarknet53; ``options`` are ``in_channels`` and ``num_classes``."""
    first = CSPStage(64, 1, ratio=0.5, expansion=2.0)
    return CSPNet([first, *(CSPStage(channels, depth) for channels, depth in DARK[1:])], **options)


def darknet53(**options: Any) -> CSPNet:
    """Darknet53, its plain twin: blocks on all channels, half as many in their middle."""
    return CSPNet([CSPStage(channels, depth, ratio=0.5, is_partial=False) for channels, depth in DARK], **options)


def csp_resnet50(**options: Any) -> CSPNet:
    """CSPResNet-50."""
    stages = [
        CSPStage(channels, depth, stride, "bottleneck", 0.5, expansion=2.0, widen=False)
        for channels, depth, stride in ((128, 3, 1), (256, 3, 2), (512, 5, 2), (1024, 2, 2))
    ]
    return CSPNet(stages, (64, 7, 2), **options)


def csp_resnext50(**options: Any) -> CSPNet:
    """CSPResNeXt-50, 32 groups."""
    stages = [
        CSPStage(channels, depth, stride, "bottleneck", 1.0, 32, widen=False)
        for channels, depth, stride in ((256, 3, 1), (512, 3, 2), (1024, 5, 2), (2048, 2, 2))
    ]
    return CSPNet(stages, (64, 7, 2), **options)


def csp_densenet(
    depths: Sequence[int] = (6, 12, 24, 16), growth: int = 32, *, is_partial: bool = True, **options: Any
) -> CSPNet:
    """A DenseNet of these depths with cross-stage partial stages, or without.

    Args:
        depths: pairs of convolutions in each stage.
        growth: channels that each pair adds.
        is_partial: split the stages.
        options: ``in_channels`` and ``num_classes``.
    """
    channels, stages = 2 * growth, []
    for index, depth in enumerate(depths):
        given = (channels + depth * growth) // 2
        stages.append(
            CSPStage(given, depth, 1 if index == 0 else 2, "dense", growth=growth, widen=False, is_partial=is_partial)
        )
        channels = given
    return CSPNet(stages, (2 * growth, 7, 2), **options)


def load_timm_cspnet(model: CSPNet, state: Mapping[str, Tensor]) -> CSPNet:
    """Copy the weights of timm's network of the same name (``cspdarknet53`` ...), whose layers come in the same order.

    Args:
        model: the network to fill, in place.
        state: timm's ``state_dict``.

    Returns:
        The model.

    Raises:
        ValueError: the two differ in a layer; names the first one.
    """
    own = model.state_dict()
    if len(own) != len(state):
        raise ValueError(f"the network has {len(own)} tensors, the weights {len(state)}")
    for (name, tensor), (other, given) in zip(own.items(), state.items(), strict=True):
        if tensor.shape != given.shape or name.rpartition(".")[2] != other.rpartition(".")[2]:
            raise ValueError(f"{other} {list(given.shape)} does not fit {name} {list(tensor.shape)}")
        tensor.copy_(given)
    return model
