"""Small changes to images that leave their class as it is."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def mirrored(x: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the images from left to right."""
    turned = torch.rand(len(x), generator=generator) < 0.5
    return torch.where(turned.to(x.device)[:, None, None, None], x.flip(-1), x)


def shifted(x: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    """Each image moved by up to ``reach`` pixels along both axes; its edges are repeated."""
    height, width = x.shape[-2:]
    padded = pad(x, (reach,) * 4, mode="replicate")
    down, right = torch.randint(2 * reach + 1, (2, len(x)), generator=generator).to(x.device)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # [batch, channels, down, right, height, width]
    return windows[torch.arange(len(x), device=x.device), :, down, right]
