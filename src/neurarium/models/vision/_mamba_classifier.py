"""A small image classifier of selective state-space blocks, and a ladder of them by cost."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neurarium.layers import MambaBlock


class MambaClassifier(nn.Module):
    """Patches as tokens, Mamba blocks with norm before and a residual around, mean over tokens, linear head.

    Args:
        image_size: side of the square image.
        patch: side of a patch.
        channels: of the image; with 1, images may come as [batch, side, side].
        d_model: width.
        depth: blocks.
        num_classes: outputs.
        d_state: states per channel of a block.
        bidirectional: blocks look both ways.

    Shape:
        [batch, channels, side, side] -> [batch, num_classes].

    Raises:
        ValueError: the side is not a multiple of the patch's.
    """

    def __init__(
        self,
        image_size: int = 28,
        patch: int = 7,
        channels: int = 1,
        d_model: int = 16,
        depth: int = 1,
        num_classes: int = 10,
        d_state: int = 16,
        bidirectional: bool = True,
    ) -> None:
        super().__init__()
        if patch < 1 or image_size % patch:
            raise ValueError(f"image_size must be a multiple of patch, unlike {image_size} and {patch}")
        self.channels = channels
        self.embed = nn.Conv2d(channels, d_model, patch, stride=patch)
        self.position = nn.Parameter(0.02 * torch.randn((image_size // patch) ** 2, d_model))
        self.norms = nn.ModuleList(nn.RMSNorm(d_model) for _ in range(depth + 1))
        self.blocks = nn.ModuleList(MambaBlock(d_model, d_state, bidirectional=bidirectional) for _ in range(depth))
        self.head = nn.Linear(d_model, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """What the head reads, [batch, d_model]."""
        image = x.unsqueeze(1) if self.channels == 1 and x.dim() == 3 else x
        tokens = self.embed(image).flatten(2).transpose(1, 2) + self.position
        for norm, block in zip(self.norms, self.blocks):
            tokens = tokens + block(norm(tokens))
        return self.norms[-1](tokens).mean(1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.head(self.features(x))

    def flops(self) -> int:
        """Operations for one image; a multiply-add counts as two, norms and activations as none."""
        tokens, width = self.position.shape
        side = self.embed.kernel_size[0]
        total = 2 * tokens * side * side * self.channels * width + 2 * width * self.head.out_features
        for block in self.blocks:
            total += mamba_flops(block, tokens)  # type: ignore[arg-type]
        return total


def mamba_flops(block: MambaBlock, tokens: int) -> int:
    """Operations of a block on so many tokens."""
    ways = 1 + block.bidirectional
    once = block.in_proj.weight.numel() + block.out_proj.weight.numel()
    each_way = block.conv1d.weight.numel() + block.x_proj.weight.numel() + block.dt_proj.weight.numel()
    return 2 * tokens * (once + ways * each_way) + block.scan_flops(tokens)


def mamba_ladder(
    teacher_flops: float | int,
    shares: Sequence[float],
    *,
    image_size: int = 28,
    patch: int = 7,
    channels: int = 1,
    num_classes: int = 10,
    d_state: int = 4,
) -> list[MambaClassifier]:
    """Classifiers as large as each share of a teacher's operations allows: one block, two from width 24 on.

    Raises:
        ValueError: a share that not even the smallest classifier fits in; the message names the smallest.
    """

    def build(width: int) -> MambaClassifier:
        depth = 1 if width < 24 else 2
        return MambaClassifier(image_size, patch, channels, width, depth, num_classes, d_state)

    smallest = build(2).flops() / teacher_flops
    found = []
    for share in shares:
        if share < smallest:
            raise ValueError(f"a share of {share:.2%} is too small: the smallest classifier takes {smallest:.2%}")
        width = 2
        while build(width + 2).flops() <= share * teacher_flops:
            width += 2
        found.append(build(width))
    return found
