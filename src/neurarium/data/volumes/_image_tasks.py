"""Tasks on images of brains: what is given, what is asked, alike for all images of an episode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from neurarium.data.volumes._subjects import Subjects

Images = Float[Tensor, "subjects height width"]
Draw = Callable[[Subjects, torch.Generator | None], tuple[Images, Images]]


@dataclass(frozen=True)
class ImageTask:
    """One kind of task.

    Args:
        draw: ``draw(subjects, generator) -> (inputs, outputs)``, both in [0, 1], one rule for all of the subjects: what
            it draws once (a level of noise, a structure) is the same for target and examples.
        mask: outputs are masks.
    """

    draw: Draw
    mask: bool = False


def uniform(low: float, high: float, generator: torch.Generator | None) -> float:
    """One number."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def denoise(subjects: Subjects, generator: torch.Generator | None) -> tuple[Images, Images]:
    """Normal noise of one level, or Rician (the length of two noisy parts), as magnitude images have."""
    clean, level = subjects.images, uniform(0.05, 0.25, generator)
    noise = level * torch.randn(2, *clean.shape, generator=generator).to(clean)
    rician = uniform(0, 1, generator) < 0.5
    noisy = ((clean + noise[0]).square() + noise[1].square()).sqrt() if rician else clean + noise[0]
    return noisy.clamp(0, 1), clean


def correct_bias(subjects: Subjects, generator: torch.Generator | None) -> tuple[Images, Images]:
    """A smooth field that brightens here and darkens there, another one for each image."""
    clean, strength = subjects.images, uniform(0.2, 0.6, generator)
    control = strength * torch.randn(len(clean), 1, 3, 3, generator=generator)
    field = F.interpolate(control, clean.shape[1:], mode="bicubic", align_corners=True)[:, 0].exp().to(clean)
    return (clean * field).clamp(0, 1), clean


def inpaint(subjects: Subjects, generator: torch.Generator | None) -> tuple[Images, Images]:
    """Random holes of one grain."""
    clean, cells = subjects.images, 4 + int(uniform(0, 5, generator))
    holes = torch.rand(len(clean), 1, cells, cells, generator=generator)
    kept = F.interpolate(holes, clean.shape[1:], mode="nearest")[:, 0].to(clean) > 0.25
    return clean * kept, clean


def super_resolve(subjects: Subjects, generator: torch.Generator | None) -> tuple[Images, Images]:
    """Half the resolution, enlarged again by one of two ways."""
    clean, mode = subjects.images, "nearest" if uniform(0, 1, generator) < 0.5 else "bilinear"
    small = F.interpolate(clean[:, None], scale_factor=0.5, mode="area", recompute_scale_factor=True)
    return F.interpolate(small, clean.shape[1:], mode=mode)[:, 0], clean


def undersample(subjects: Subjects, generator: torch.Generator | None) -> tuple[Images, Images]:
    """Rows of k-space left out, all but the central ones."""
    clean = subjects.images
    rows = clean.shape[1]
    seen = torch.rand(rows, generator=generator) < uniform(0.3, 0.6, generator)
    seen[rows // 2 - rows // 12 : rows // 2 + rows // 12 + 1] = True
    spectrum = torch.fft.fftshift(torch.fft.fft2(clean.float()), dim=(1, 2)) * seen.to(clean.device)[:, None]
    return torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(1, 2))).abs().clamp(0, 1).to(clean), clean


def recolour(subjects: Subjects, generator: torch.Generator | None) -> tuple[Images, Images]:
    """Another modality: each brightness becomes another, by one random curve through five points."""
    return subjects.images, curve(subjects.images, torch.rand(5, generator=generator))


def gamma_invert(subjects: Subjects, generator: torch.Generator | None) -> tuple[Images, Images]:
    """The negative of a power of the brightness."""
    return subjects.images, 1 - subjects.images ** uniform(0.5, 2.0, generator)


def find_edges(subjects: Subjects, generator: torch.Generator | None) -> tuple[Images, Images]:
    """The length of the brightness' gradient, by Sobel's filters."""
    clean, gain = subjects.images, uniform(0.5, 1.0, generator)
    return clean, (gain * sobel(clean)).clamp(0, 1)


def strip_skull(subjects: Subjects, generator: torch.Generator | None) -> tuple[Images, Images]:
    """The brain alone."""
    return subjects.images, subjects.images * subjects.brain


def segment(subjects: Subjects, generator: torch.Generator | None) -> tuple[Images, Images]:
    """One structure, or two together."""
    count = 1 + int(uniform(0, 1, generator) < 0.4)
    order = torch.randperm(len(subjects.structures), generator=generator)[:count].tolist()
    mask = sum((subjects.labels == subjects.structures[k]).to(subjects.images) for k in order)
    return subjects.images, torch.as_tensor(mask).clamp(0, 1)


def segment_brain(subjects: Subjects, generator: torch.Generator | None) -> tuple[Images, Images]:
    """The mask of the brain."""
    return subjects.images, subjects.brain


def curve(images: Images, heights: Float[Tensor, " knots"]) -> Images:
    """Brightness through a piecewise linear curve with evenly spaced knots."""
    at = images.clamp(0, 1) * (len(heights) - 1)
    low = at.floor().clamp_max(len(heights) - 2).long()
    values = heights.to(images)
    return torch.lerp(values[low], values[low + 1], at - low)


def sobel(images: Images) -> Images:
    """Length of the gradient."""
    across = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]]).to(images) / 4
    kernels = torch.stack((across, across.T))[:, None]
    padded = F.pad(images[:, None], (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, kernels).square().sum(1).sqrt()


IMAGE_TASKS: Mapping[str, ImageTask] = {
    "denoise": ImageTask(denoise),
    "bias": ImageTask(correct_bias),
    "inpaint": ImageTask(inpaint),
    "super-resolution": ImageTask(super_resolve),
    "k-space": ImageTask(undersample),
    "modality": ImageTask(recolour),
    "gamma-invert": ImageTask(gamma_invert),
    "edges": ImageTask(find_edges),
    "skull-stripping": ImageTask(strip_skull),
    "segmentation": ImageTask(segment, mask=True),
    "brain-mask": ImageTask(segment_brain, mask=True),
}
"""The tasks by name; yours is another `ImageTask`."""
