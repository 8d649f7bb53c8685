"""Two streams of images, a target and a set of examples, that tell each other what they see.

Czolbe and Dalca, Neuralizer: General Neuroimage Analysis without Re-Training, 2023.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

CONVOLUTIONS: dict[int, Any] = {2: (nn.Conv2d, F.conv2d), 3: (nn.Conv3d, F.conv3d)}


class ConvResidualUnit(nn.Module):
    """GELU(x + convolutions of x), each 3 wide, a GELU between them.

    Args:
        channels: of input and output.
        convs: convolutions.
        dim: 2 for images, 3 for volumes.
    """

    def __init__(self, channels: int, convs: int = 2, dim: int = 2) -> None:
        super().__init__()
        conv = CONVOLUTIONS[dim][0]
        self.convs = nn.ModuleList(conv(channels, channels, 3, padding=1) for _ in range(convs))

    def forward(self, x: Float[Tensor, "batch channels *space"]) -> Float[Tensor, "batch channels *space"]:
        """The unit's output."""
        hidden = x
        for n, conv in enumerate(self.convs):
            hidden = conv(F.gelu(hidden) if n else hidden)
        return F.gelu(x + hidden)


class PairwiseConvAvg(nn.Module):
    """A residual unit for the target and one shared by all examples; then each hears of the other, in pairs.

    With u_l for the examples and v for the target, behind the units: v <- GELU(v + mean_l A [u_l; v]) and
    u_l <- GELU(u_l + B [u_l; v]) with 1 x 1 convolutions A and B. The order of examples does not matter, and they meet
    only through the target. No pair is ever formed: a convolution of a pair is the sum of one of each part, that of v
    is computed once, and the mean goes before the convolution.

    Args:
        channels: of both streams.
        convs_per_unit: convolutions of each residual unit.
        dim: 2 for images, 3 for volumes.
    """

    def __init__(self, channels: int, convs_per_unit: int = 2, dim: int = 2) -> None:
        super().__init__()
        if dim not in CONVOLUTIONS:
            raise ValueError(f"dim must be 2 or 3, not {dim}")
        self.channels, self.dim = channels, dim
        conv = CONVOLUTIONS[dim][0]
        self.context_unit = ConvResidualUnit(channels, convs_per_unit, dim)
        self.target_unit = ConvResidualUnit(channels, convs_per_unit, dim)
        self.to_context = conv(2 * channels, channels, 1)
        self.to_target = conv(2 * channels, channels, 1)

    def forward(
        self,
        context: Float[Tensor, "batch examples channels *space"],
        target: Float[Tensor, "batch channels *space"],
        chunk: int | None = None,
    ) -> tuple[Float[Tensor, "batch examples channels *space"], Float[Tensor, "batch channels *space"]]:
        """Both streams.

        Args:
            context: the examples.
            target: the image to be solved.
            chunk: examples taken through their unit at a time; all by default. Fewer need less memory for what lies
                between the convolutions.
        """
        target = self.target_unit(target)
        pieces = [self._unit(piece) for piece in context.split(chunk or context.shape[1], 1)]
        context = torch.cat(pieces, 1) if len(pieces) > 1 else pieces[0]
        told = self._half(self.to_target, context.mean(1), 0) + self._half(self.to_target, target, 1)
        heard = self._half(self.to_context, context.flatten(0, 1), 0).view_as(context)
        heard = heard + self._half(self.to_context, target, 1)[:, None]
        return F.gelu(context + heard), F.gelu(target + told)

    def _unit(self, context: Tensor) -> Tensor:
        out: Tensor = self.context_unit(context.flatten(0, 1))
        return out.unflatten(0, context.shape[:2])

    def _half(self, pair: nn.Module, x: Tensor, half: int) -> Tensor:
        """What a 1 x 1 convolution of pairs makes of the example (0) or of the target (1), which brings the bias."""
        weight = pair.weight[:, half * self.channels : (half + 1) * self.channels]  # type: ignore[index]
        out: Tensor = CONVOLUTIONS[self.dim][1](x, weight, pair.bias if half else None)
        return out
