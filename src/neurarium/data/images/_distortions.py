"""Random affine and elastic distortions of a batch of images, each with its own draw."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import grid_sample


class Distort:
    """Translation, rotation, scaling and elastic bending of images, drawn anew for each image at each call.

    One field of positions is made for each image and the image read there once, bilinearly; what comes from outside
    repeats the border. The image's device and type are kept.

    Args:
        translate: largest shift, as a share of the sides.
        rotate: largest turn in degrees, either way.
        scale: largest stretch of each axis on its own, as a share.
        elastic: deviation of the Gaussian that smooths uniform noise, and what it is multiplied by, both in pixels;
            None for none.
        generator: of the draws, on any device; torch's own by default.

    Raises:
        ValueError: a negative range, or a deviation that is not positive.
    """

    def __init__(
        self,
        translate: float = 0.05,
        rotate: float = 15.0,
        scale: float = 0.15,
        elastic: tuple[float, float] | None = (6.0, 36.0),
        generator: torch.Generator | None = None,
    ) -> None:
        if min(translate, rotate, scale) < 0 or scale >= 1:
            raise ValueError("translate, rotate and scale must not be negative, and scale below 1")
        if elastic is not None and elastic[0] <= 0:
            raise ValueError(f"elastic must have a positive deviation, not {elastic[0]}")
        self.translate, self.rotate, self.scale, self.elastic = translate, rotate, scale, elastic
        self.generator = generator

    def __call__(
        self, images: Shaped[Tensor, "n *channels height width"], labels: Shaped[Tensor, "n height width"] | None = None
    ) -> Any:
        """Distorted images; with label maps, a pair, the labels read at the nearest pixel of the same positions.

        Args:
            images: [n, height, width] or [n, channels, height, width]; uint8 or floating point.
            labels: a class for each pixel, of any type.

        Raises:
            ValueError: another shape or type, or labels of another size.
        """
        if images.dim() not in (3, 4):
            raise ValueError(f"images must be [n, (channels,) height, width], not {list(images.shape)}")
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise ValueError(f"images must be uint8 or floating point, not {images.dtype}")
        shape = (len(images), *images.shape[-2:])
        if labels is not None and tuple(labels.shape) != shape:
            raise ValueError(f"labels must be {list(shape)}, as the images, not {list(labels.shape)}")
        positions = self.positions(len(images), images.shape[-2], images.shape[-1], images.device)
        bent = read_at(images, positions)
        return bent if labels is None else (bent, read_at(labels, positions, nearest=True))

    def positions(
        self, n: int, height: int, width: int, device: torch.device | str = "cpu"
    ) -> Float[Tensor, "n height width 2"]:
        """Where each pixel is read, (across, down) in pixels from the first, for n images."""
        angle = math.radians(self.rotate) * uniform((n,), self.generator, device)
        stretch = 1 + self.scale * uniform((n, 2), self.generator, device)
        shift = self.translate * uniform((n, 2), self.generator, device)
        x = torch.arange(width, device=device) - (width - 1) / 2
        y = (torch.arange(height, device=device) - (height - 1) / 2)[:, None]
        cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
        moved = []
        for axis, (turned, side) in enumerate([(cos * x - sin * y, width), (sin * x + cos * y, height)]):
            moved.append(turned * stretch[:, axis, None, None] + shift[:, axis, None, None] * side + (side - 1) / 2)
        found = torch.stack(moved, -1)
        if self.elastic is not None:
            found = found + elastic_field((n, height, width), *self.elastic, generator=self.generator, device=device)
        return found

    def batches(self, loader: Iterable[tuple[Tensor, Tensor]]) -> Distorted:
        """A loader of the same batches, distorted anew at each pass."""
        return Distorted(self, loader)


class Distorted:
    """Batches of a loader with their images distorted; made by `Distort.batches`."""

    def __init__(self, distort: Distort, loader: Iterable[tuple[Tensor, Tensor]]) -> None:
        self.distort, self.loader = distort, loader

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in self.loader:
            yield self.distort(x), y

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]


def elastic_field(
    shape: tuple[int, int, int],
    deviation: float = 6.0,
    amplitude: float = 36.0,
    *,
    noise: Float[Tensor, "n 2 height width"] | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Float[Tensor, "n height width 2"]:
    """Smooth random displacements in pixels (Simard et al., 2003).

    Uniform noise in [-1, 1] for each pixel and axis, smoothed by a Gaussian, times ``amplitude``. The Gaussian is cut
    at four deviations and the noise mirrored at the borders, as `scipy.ndimage.gaussian_filter` does; along each axis
    it is one matrix.

    Args:
        shape: number of images, height, width.
        deviation: of the Gaussian.
        amplitude: what the smoothed noise is multiplied by.
        noise: to use in the place of a draw.
        generator: of the draw.
        device: of the result.

    Returns:
        (across, down) for each pixel.
    """
    n, height, width = shape
    if noise is None:
        noise = uniform((n, 2, height, width), generator, device)
    down, across = (gaussian_matrix(side, deviation).to(noise) for side in (height, width))
    return amplitude * (down @ noise @ across.T).movedim(1, -1)


def gaussian_matrix(side: int, deviation: float) -> Float[Tensor, "side side"]:
    """Smoothing along one axis as a matrix, what lies beyond a border mirrored, the border's pixel included."""
    reach = int(4 * deviation + 0.5)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (offsets.double() / deviation).square())
    read = (torch.arange(side)[:, None] + offsets) % (2 * side)
    read = torch.where(read < side, read, 2 * side - 1 - read)
    matrix = torch.zeros(side, side, dtype=torch.float64)
    return matrix.scatter_add(1, read, (weights / weights.sum()).expand(side, -1)).float()


def read_at(
    images: Shaped[Tensor, "n *channels height width"],
    positions: Float[Tensor, "n height2 width2 2"],
    nearest: bool = False,
) -> Tensor:
    """Images at other positions, bilinearly or at the nearest pixel, the border repeated outside.

    Args:
        images: of any type; other types than floating point are rounded.
        positions: (across, down) in pixels from the first.
        nearest: take a pixel as it is.
    """
    size = positions.new_tensor([images.shape[-1], images.shape[-2]])
    grid = (2 * positions + 1) / size - 1
    whole = not images.is_floating_point()
    flat = images.reshape(len(images), -1, *images.shape[-2:]).to(torch.promote_types(images.dtype, torch.float32))
    mode = "nearest" if nearest else "bilinear"
    made = grid_sample(flat, grid.to(flat.dtype), mode=mode, padding_mode="border", align_corners=False)
    made = made.reshape(*images.shape[:-2], *positions.shape[1:3])
    return (made.round() if whole else made).to(images.dtype)


def uniform(shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device | str) -> Tensor:
    """Numbers in [-1, 1], drawn where the generator is."""
    at = device if generator is None else generator.device
    return 2 * torch.rand(shape, generator=generator, device=at).to(device) - 1
