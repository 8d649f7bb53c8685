"""Random views of images as tensors, each example with its own draw, on the images' device."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import affine_grid, conv2d, grid_sample, pad


class RandomViews(nn.Module):
    """Crops, flips, changes of brightness and contrast, and blur of floating-point images of any number of channels.

    Each call draws anew, for every example alone: ``views(x), views(x)`` are the two views that contrastive and
    self-distilling objectives ask for.

    Args:
        crop: smallest share of the area that a crop keeps; it is resized to the whole. 1 for none.
        flip: probability of a left-right flip.
        jitter: largest change of brightness (in deviations of the example) and of contrast (as a factor).
        blur: probability of a blur by a Gaussian of .1 to 1.5 pixels.
        generator: of the draws, on any device; by default torch's own on the images' device.

    Raises:
        ValueError: an argument outside 0 to 1.
    """

    def __init__(
        self,
        crop: float = 0.4,
        flip: float = 0.5,
        jitter: float = 0.4,
        blur: float = 0.3,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not 0 < crop <= 1 or not all(0 <= value <= 1 for value in (flip, jitter, blur)):
            raise ValueError("crop must be above 0 and at most 1; flip, jitter and blur from 0 to 1")
        self.crop, self.flip, self.jitter, self.blur, self.generator = crop, flip, jitter, blur, generator

    @torch.no_grad()
    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        """One view of each image.

        Raises:
            ValueError: not images [batch, channels, height, width].
        """
        if x.dim() != 4 or not x.is_floating_point():
            raise ValueError(f"views need floating-point images [batch, channels, height, width], not {list(x.shape)}")
        n = len(x)
        side = self._uniform(x, self.crop, 1.0).sqrt()
        mirror = torch.where(self._uniform(x) < self.flip, -1.0, 1.0).to(x)
        turn = x.new_zeros(n, 2, 3)
        turn[:, 0, 0], turn[:, 1, 1] = side * mirror, side
        for axis in (0, 1):
            turn[:, axis, 2] = (1 - side) * (2 * self._uniform(x) - 1)
        grid = affine_grid(turn, list(x.shape), align_corners=False)
        x = grid_sample(x, grid, padding_mode="reflection", align_corners=False)
        if self.jitter:
            mean, deviation = x.mean((1, 2, 3), keepdim=True), x.std((1, 2, 3), keepdim=True)
            contrast = self._uniform(x, 1 - self.jitter, 1 + self.jitter)[:, None, None, None]
            brightness = self._uniform(x, -self.jitter, self.jitter)[:, None, None, None]
            x = (x - mean) * contrast + mean + brightness * deviation
        return self._blurred(x) if self.blur else x

    def _blurred(self, x: Tensor) -> Tensor:
        """Each image by its own separable kernel of five taps, or by one that changes nothing."""
        n, channels = x.shape[:2]
        width = self._uniform(x, 0.1, 1.5)
        width = torch.where(self._uniform(x) < self.blur, width, 1e-3)
        taps = torch.arange(-2, 3, device=x.device, dtype=x.dtype)
        kernel = torch.softmax(-0.5 * (taps / width[:, None]).square(), 1).repeat_interleave(channels, 0)
        flat = x.reshape(1, n * channels, *x.shape[2:])
        for shape, sides in (((1, 5), (2, 2, 0, 0)), ((5, 1), (0, 0, 2, 2))):
            flat = conv2d(pad(flat, sides, mode="replicate"), kernel.view(-1, 1, *shape), groups=n * channels)
        return flat.view_as(x)

    def _uniform(self, x: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
        device = x.device if self.generator is None else self.generator.device
        return low + (high - low) * torch.rand(len(x), device=device, dtype=x.dtype, generator=self.generator).to(x)
