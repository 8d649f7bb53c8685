"""Projections of an image along parallel rays, and their inversion."""

from __future__ import annotations

import math
import warnings

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from neurarium.layers.forward_maps._forward_map import ForwardMap
from neurarium.layers.forward_maps._point_maps import pixel_grid


class ParallelBeam(ForwardMap):
    """Mean of a square image along parallel rays: the parameters are angles [*batch, views] in radians.

    A view at angle t turns the sampling grid by t about the image's centre and takes the mean of its columns, zero
    outside the image: at t = 0 the columns' means, at t = pi those mirrored. A detector so reads the integral along its
    ray divided by the image's side.

    Args:
        size: side of the image in pixels, side² points of the field.
        detectors: of a view; ``size`` by default.
        mode: "bilinear" or "nearest" sampling (the paper's code has the second).

    Raises:
        ValueError: a size or number of detectors below 1, or another mode.
    """

    grid: Tensor

    def __init__(self, size: int, detectors: int | None = None, mode: str = "bilinear") -> None:
        super().__init__()
        detectors = detectors or size
        if size < 1 or detectors < 1:
            raise ValueError(f"size and detectors must be at least 1, not {size} and {detectors}")
        if mode not in ("bilinear", "nearest"):
            raise ValueError(f"mode must be 'bilinear' or 'nearest', not {mode!r}")
        self.size, self.detectors, self.mode, self.checked = size, detectors, mode, False
        self.register_buffer("grid", pixel_grid(size, size), persistent=False)

    def points(self, parameters: Float[Tensor, "*batch views"]) -> Float[Tensor, "*batch pixels 2"]:
        """Every pixel, whatever the angles."""
        return self.grid.expand(*parameters.shape[:-1], -1, -1)

    def describe(self, parameters: Float[Tensor, "batch views"]) -> Float[Tensor, "batch views 2"]:
        """Cosine and sine of each angle."""
        self._warn_of_degrees(parameters)
        return torch.stack((parameters.cos(), parameters.sin()), -1)

    def rays(self, angles: Float[Tensor, "*batch views"]) -> Float[Tensor, "*batch views samples detectors 2"]:
        """Where each detector's ray is sampled."""
        self._warn_of_degrees(angles)
        turned = pixel_grid(self.size, self.detectors, device=angles.device, dtype=angles.dtype)
        x, y = turned.view(self.size, self.detectors, 2).unbind(-1)
        cos, sin = angles.cos()[..., None, None], angles.sin()[..., None, None]
        return torch.stack((x * cos - y * sin, x * sin + y * cos), -1)

    def forward(
        self, values: Float[Tensor, "*batch pixels channels"], parameters: Float[Tensor, "*batch views"]
    ) -> Float[Tensor, "*batch views detectors channels"]:
        """The views.

        Raises:
            ValueError: ``values`` does not hold a value for each pixel.
        """
        if values.shape[-2] != self.size**2:
            raise ValueError(
                f"values must hold {self.size**2} pixels ({self.size} x {self.size}), not {values.shape[-2]}"
            )
        batch, views, channels = values.shape[:-2], parameters.shape[-1], values.shape[-1]
        images = values.reshape(-1, self.size, self.size, channels).movedim(-1, 1)
        rays = self.rays(parameters).to(values.dtype).expand(*batch, -1, -1, -1, -1)
        rays = rays.reshape(-1, views * self.size, self.detectors, 2)
        sampled = F.grid_sample(images, rays, mode=self.mode, padding_mode="zeros", align_corners=False)
        means = sampled.unflatten(2, (views, self.size)).mean(3)
        return means.movedim(1, -1).reshape(*batch, views, self.detectors, channels)

    def _warn_of_degrees(self, angles: Tensor) -> None:
        """On the first batch alone: looking at numbers waits for the device."""
        if self.checked:
            return
        self.checked = True
        try:
            beyond = bool((angles.abs() > 2 * math.pi).any())
        except RuntimeError:  # inside torch.func.vmap numbers cannot be looked at
            return
        if beyond:
            warnings.warn("angles beyond 2 pi: they are taken as radians, not as degrees", stacklevel=4)

    def extra_repr(self) -> str:
        return f"size={self.size}, detectors={self.detectors}, mode={self.mode!r}"


def filtered_back_projection(
    views: Float[Tensor, "*batch views detectors"], angles: Float[Tensor, "*batch angles"], size: int
) -> Float[Tensor, "*batch size size"]:
    """The image from its projections in closed form: each view filtered by a ramp and smeared back along its rays.

    Exact in the limit of many views evenly spaced over half a turn; with few it shows streaks.

    Args:
        views: as `ParallelBeam` makes them of one channel.
        angles: of the views, in radians.
        size: side of the image.

    Raises:
        ValueError: as many angles as views are needed.
    """
    if views.shape[-2] != angles.shape[-1]:
        raise ValueError(f"there are {views.shape[-2]} views but {angles.shape[-1]} angles")
    detectors = views.shape[-1]
    length = 2 ** math.ceil(math.log2(2 * detectors))
    steps = torch.arange(length, device=views.device, dtype=views.dtype)
    lag = torch.minimum(steps, length - steps)  # the band-limited ramp in space, which keeps the mean right
    kernel = torch.where(lag % 2 == 1, -1 / (math.pi * lag.clamp_min(1)).square(), 0.0).to(views.dtype)
    kernel[0] = 0.25
    filtered = torch.fft.irfft(torch.fft.rfft(views, length) * torch.fft.rfft(kernel), length)[..., :detectors]
    x, y = pixel_grid(size, size, device=views.device, dtype=views.dtype).unbind(-1)
    cos, sin = angles.cos()[..., None], angles.sin()[..., None]
    along = x * cos + y * sin  # the detector, in [-1, 1], whose ray passes the pixel
    lines = filtered.reshape(-1, 1, detectors, 1)
    places = torch.stack((torch.zeros_like(along), along), -1).to(views.dtype)
    places = places.expand(*views.shape[:-1], -1, -1).reshape(len(lines), -1, 1, 2)
    smeared = F.grid_sample(lines, places, padding_mode="zeros", align_corners=False)
    image = smeared.reshape(*views.shape[:-1], size, size).sum(-3)
    return image * (math.pi * detectors / views.shape[-2])
