"""Heads of ellipses for computed tomography: the phantom of Shepp and Logan, and random ones like it."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

# brightness, half axes, centre, angle in degrees: the table of 1974 with the contrasts of Toft (1996)
_HEAD = (
    (1.0, 0.69, 0.92, 0.0, 0.0, 0.0),
    (-0.8, 0.6624, 0.874, 0.0, -0.0184, 0.0),
    (-0.2, 0.11, 0.31, 0.22, 0.0, -18.0),
    (-0.2, 0.16, 0.41, -0.22, 0.0, 18.0),
    (0.1, 0.21, 0.25, 0.0, 0.35, 0.0),
    (0.1, 0.046, 0.046, 0.0, 0.1, 0.0),
    (0.1, 0.046, 0.046, 0.0, -0.1, 0.0),
    (0.1, 0.046, 0.023, -0.08, -0.605, 0.0),
    (0.1, 0.023, 0.023, 0.0, -0.606, 0.0),
    (0.1, 0.023, 0.046, 0.06, -0.605, 0.0),
)


def shepp_logan(size: int, oversampling: int = 4) -> Float[Tensor, "size size"]:
    """The phantom of Shepp and Logan in [0, 1].

    Args:
        size: side in pixels.
        oversampling: points per side of a pixel, whose mean it is.
    """
    return _drawn(torch.tensor([_HEAD]), size, oversampling)[0]


def random_phantoms(
    count: int, size: int, *, spread: float = 1.0, oversampling: int = 2, generator: torch.Generator | None = None
) -> Float[Tensor, "count size size"]:
    """Phantoms whose ellipses differ from Shepp and Logan's in place, size, angle and brightness, in [0, 1].

    The skull and the brain within it move, grow and turn together; each inner ellipse also by itself.

    Args:
        count: how many.
        size: side in pixels.
        spread: how much they differ; 0 gives the phantom itself.
        oversampling: points per side of a pixel.
        generator: source of the draws, on the CPU.
    """
    head = torch.tensor(_HEAD).expand(count, -1, -1).clone()

    def uniform(width: float, columns: int = len(_HEAD)) -> Tensor:
        return spread * width * (2 * torch.rand(count, columns, generator=generator) - 1)

    head[..., 0] *= 1 + uniform(0.5)
    head[:, 0, 0], head[:, 1, 0] = 1, -0.8 + uniform(0.1, 1)[:, 0]
    head[:, 2:, 1:3] *= (1 + torch.stack((uniform(0.35), uniform(0.35)), -1))[:, 2:]
    head[:, 2:, 3:5] += torch.stack((uniform(0.08), uniform(0.08)), -1)[:, 2:]
    head[:, 2:, 5] += uniform(40)[:, 2:]
    scale, turn = 1 + uniform(0.1, 2) - 0.07 * spread, torch.deg2rad(uniform(15, 1))
    shift = torch.stack((uniform(0.05, 1), uniform(0.05, 1)), -1)
    head[..., 1:3] *= scale[:, None]
    x, y = (head[..., 3:5] * scale[:, None]).unbind(-1)
    head[..., 3] = x * turn.cos() - y * turn.sin() + shift[..., 0]
    head[..., 4] = x * turn.sin() + y * turn.cos() + shift[..., 1]
    head[..., 5] += torch.rad2deg(turn)
    return _drawn(head, size, oversampling)


def _drawn(
    ellipses: Float[Tensor, "count ellipses 6"], size: int, oversampling: int
) -> Float[Tensor, "count size size"]:
    """The sum of the ellipses at each pixel, y upwards."""
    fine = size * oversampling
    line = (2 * torch.arange(fine) + 1) / fine - 1
    image = torch.zeros(len(ellipses), fine, fine)
    for ellipse in ellipses.unbind(1):
        brightness, a, b, x0, y0, degrees = ellipse.T[..., None, None]
        turn = degrees * math.pi / 180
        x, y = line[None, None, :] - x0, -line[None, :, None] - y0
        along, across = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
        image += brightness * ((along / a).square() + (across / b).square() <= 1)
    means = torch.nn.functional.avg_pool2d(image[:, None], oversampling)[:, 0]
    return means.clamp(0, 1)
