"""Common corruptions of images, in five severities: noise, blur, weather, digital artefacts, geometry.

The kinds are those of the ImageNet-C benchmark (Hendrycks and Dietterich, 2019) with two moves added; the functions and
strengths are our own, set for small images (28 or 32 pixels a side): compare methods on them, not with published
numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample, interpolate, pad

Images = Float[Tensor, "n channels height width"]
_PART = 1024  # images corrupted at a time, which bounds the memory of fields and kernels


def corrupt(x: Tensor, kind: str, severity: int = 3, generator: Generator | None = None) -> Tensor:
    """Corrupted copies of images; shape and dtype stay.

    Args:
        x: [n, height, width] or [n, channels, height, width]; uint8, or floating point between 0 and 1.
        kind: one of `CORRUPTIONS`.
        severity: from 1 (light) to 5.
        generator: of all random draws, on the CPU; torch's own by default.

    Raises:
        ValueError: an unknown kind or severity, another shape, or values outside the range.
    """
    if kind not in CORRUPTIONS:
        raise ValueError(f"kind must be one of {', '.join(CORRUPTIONS)}, not {kind!r}")
    if severity not in (1, 2, 3, 4, 5):
        raise ValueError(f"severity must be 1, 2, 3, 4 or 5, not {severity!r}")
    if x.dim() not in (3, 4):
        raise ValueError(f"x must be [n, height, width] or [n, channels, height, width], not {tuple(x.shape)}")
    whole = x.dtype == torch.uint8
    if not whole and not x.is_floating_point():
        raise ValueError(f"x must be uint8 or floating point, not {x.dtype}")
    if not whole and x.numel() and not (float(x.min()) >= 0 and float(x.max()) <= 1):
        raise ValueError("floating-point images must lie between 0 and 1: corrupt them before they are standardised")
    function, strengths = CORRUPTIONS[kind]
    result = torch.empty_like(x)
    for start in range(0, len(x), _PART):
        part = x[start : start + _PART]
        images = part.reshape(len(part), -1, *x.shape[-2:])
        images = images.float() / 255 if whole else images
        changed = function(images, strengths[severity - 1], generator).clamp(0, 1).reshape(part.shape)
        result[start : start + _PART] = (changed * 255).round().to(torch.uint8) if whole else changed
    return result


def gaussian_noise(x: Images, deviation: float, generator: Generator | None) -> Images:
    """Independent normal noise."""
    return x + deviation * _normal(x.shape, x, generator)


def shot_noise(x: Images, photons: float, generator: Generator | None) -> Images:
    """Poisson counts; ``photons`` for a white pixel."""
    return torch.poisson((x * photons).cpu(), generator).to(x) / photons


def impulse_noise(x: Images, share: float, generator: Generator | None) -> Images:
    """A share of values set to black or white."""
    draw = _uniform(x.shape, x, generator)
    return x.masked_fill(draw < share / 2, 0).masked_fill(draw > 1 - share / 2, 1)


def defocus_blur(x: Images, radius: float, generator: Generator | None) -> Images:
    """Mean over a disc of ``radius`` pixels with a soft edge."""
    across, along = _offsets(math.ceil(radius) + 1, x)
    disc = (radius + 0.5 - (across**2 + along**2).sqrt()).clamp(0, 1)
    return _filtered(x, disc.expand(len(x), -1, -1))


def motion_blur(x: Images, length: float, generator: Generator | None) -> Images:
    """Mean along a line of ``length`` pixels, its direction drawn for each image."""
    angle = math.pi * _uniform((len(x), 1, 1), x, generator)
    across, along = _offsets(math.ceil(length / 2) + 1, x)
    on = across * angle.cos() + along * angle.sin()
    off = along * angle.cos() - across * angle.sin()
    return _filtered(x, (length / 2 + 0.5 - on.abs()).clamp(0, 1) * (1 - off.abs()).clamp_min(0))


def fog(x: Images, density: float, generator: Generator | None) -> Images:
    """A light layer of cloud at several scales, then the range brought back."""
    cloud = torch.stack([_field(x, cells, generator) / cells for cells in (2, 4, 8)]).sum(0)
    low, high = cloud.amin((1, 2, 3), keepdim=True), cloud.amax((1, 2, 3), keepdim=True)
    return (x + density * (cloud - low) / (high - low).clamp_min(1e-6)) / (1 + density)


def brightness(x: Images, amount: float, generator: Generator | None) -> Images:
    """Values raised."""
    return x + amount


def contrast(x: Images, share: float, generator: Generator | None) -> Images:
    """The share of the difference from each image's mean that is left."""
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + share * (x - mean)


def elastic(x: Images, amplitude: float, generator: Generator | None) -> Images:
    """A smooth random displacement of ``amplitude`` pixels (one deviation)."""
    size = torch.tensor([x.shape[-1], x.shape[-2]]).to(x)
    shift = torch.stack([_field(x, 4, generator)[:, 0], _field(x, 4, generator)[:, 0]], -1)
    shift = amplitude * shift / shift.std((1, 2, 3), keepdim=True).clamp_min(1e-6)
    return grid_sample(x, _identity(x) + 2 * shift / size, padding_mode="border", align_corners=False)


def pixelate(x: Images, share: float, generator: Generator | None) -> Images:
    """Sides reduced to a share of their length by averaging, then blown up."""
    height, width = x.shape[-2:]
    small = interpolate(x, (max(1, round(share * height)), max(1, round(share * width))), mode="area")
    return interpolate(small, (height, width), mode="nearest-exact")


def jpeg(x: Images, step: float, generator: Generator | None) -> Images:
    """Cosine coefficients of 8 x 8 blocks rounded to multiples of ``step`` (1 + frequency): lossy as JPEG is."""
    height, width = x.shape[-2:]
    padded = pad(x, (0, -width % 8, 0, -height % 8), mode="replicate")
    blocks = padded.unfold(2, 8, 8).unfold(3, 8, 8)  # [n, channels, rows, columns, 8, 8]
    k = torch.arange(8, dtype=x.dtype, device=x.device)
    basis = 0.5 * torch.cos((2 * k + 1) * k[:, None] * math.pi / 16)
    basis[0] /= math.sqrt(2)
    grid = step * (1 + k + k[:, None])
    coefficients = basis @ blocks @ basis.T
    blocks = basis.T @ ((coefficients / grid).round() * grid) @ basis
    return blocks.transpose(3, 4).reshape(padded.shape)[..., :height, :width]


def rotate(x: Images, degrees: float, generator: Generator | None) -> Images:
    """A turn by ``degrees`` to the left or to the right, drawn for each image."""
    angle = math.radians(degrees) * _sign(x, generator)
    height, width = x.shape[-2:]
    zero = torch.zeros_like(angle)
    top = torch.stack([angle.cos(), -angle.sin() * height / width, zero], 1)
    bottom = torch.stack([angle.sin() * width / height, angle.cos(), zero], 1)
    return _moved(x, torch.stack([top, bottom], 1))


def translate(x: Images, share: float, generator: Generator | None) -> Images:
    """A shift by a share of the sides along each axis, its two directions drawn for each image."""
    one, zero = torch.ones(len(x)).to(x), torch.zeros(len(x)).to(x)
    top = torch.stack([one, zero, 2 * share * _sign(x, generator)], 1)
    bottom = torch.stack([zero, one, 2 * share * _sign(x, generator)], 1)
    return _moved(x, torch.stack([top, bottom], 1))


CORRUPTIONS: dict[
    str, tuple[Callable[[Images, float, Generator | None], Images], tuple[float, float, float, float, float]]
] = {
    "gaussian_noise": (gaussian_noise, (0.08, 0.14, 0.22, 0.32, 0.44)),
    "shot_noise": (shot_noise, (40, 18, 9, 5, 3)),
    "impulse_noise": (impulse_noise, (0.04, 0.09, 0.15, 0.23, 0.32)),
    "defocus_blur": (defocus_blur, (0.8, 1.3, 1.8, 2.4, 3.0)),
    "motion_blur": (motion_blur, (3, 5, 7, 9, 12)),
    "fog": (fog, (0.3, 0.6, 0.9, 1.3, 1.8)),
    "brightness": (brightness, (0.1, 0.2, 0.3, 0.42, 0.55)),
    "contrast": (contrast, (0.7, 0.5, 0.35, 0.22, 0.12)),
    "elastic": (elastic, (0.5, 0.9, 1.3, 1.8, 2.4)),
    "pixelate": (pixelate, (0.7, 0.5, 0.4, 0.3, 0.22)),
    "jpeg": (jpeg, (0.03, 0.07, 0.12, 0.2, 0.3)),
    "rotate": (rotate, (8, 16, 24, 32, 42)),
    "translate": (translate, (0.04, 0.08, 0.12, 0.17, 0.22)),
}
"""Kind -> its function and its strength at severities 1 to 5."""


def _normal(shape: tuple[int, ...], like: Tensor, generator: Generator | None) -> Tensor:
    return torch.randn(shape, generator=generator).to(like)


def _uniform(shape: tuple[int, ...], like: Tensor, generator: Generator | None) -> Tensor:
    return torch.rand(shape, generator=generator).to(like)


def _sign(x: Images, generator: Generator | None) -> Tensor:
    """-1 or 1 for each image."""
    return 2 * torch.randint(2, (len(x),), generator=generator).to(x) - 1


def _field(x: Images, cells: int, generator: Generator | None) -> Images:
    """A smooth random field per image: normal values on a coarse grid, interpolated."""
    coarse = _normal((len(x), 1, cells + 1, cells + 1), x, generator)
    return interpolate(coarse, x.shape[-2:], mode="bicubic", align_corners=True)


def _offsets(reach: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates of a square kernel around its centre."""
    line = torch.arange(-reach, reach + 1).to(like)
    return line[None, :], line[:, None]


def _filtered(x: Images, kernels: Float[Tensor, "n side side"]) -> Images:
    """Each image under its own kernel, which is brought to sum 1; edges are repeated."""
    kernels = (kernels / kernels.sum((1, 2), keepdim=True)).repeat_interleave(x.shape[1], 0)[:, None]
    reach = kernels.shape[-1] // 2
    padded = pad(x, (reach,) * 4, mode="replicate").flatten(0, 1)[None]
    return conv2d(padded, kernels, groups=len(kernels)).view_as(x)


def _identity(x: Images) -> Tensor:
    """The sampling grid that changes nothing."""
    still = torch.eye(2, 3).to(x).expand(len(x), 2, 3)
    return affine_grid(still, list(x.shape), align_corners=False)


def _moved(x: Images, theta: Float[Tensor, "n 2 3"]) -> Images:
    """Each image under its own affine map; what comes from outside is black."""
    return grid_sample(x, affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)
