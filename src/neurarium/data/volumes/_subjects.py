"""Subjects made of one labelled brain: slices of a template, bent at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from neurarium.data._errors import DataError
from neurarium.data.known._cache import obtain
from neurarium.data.known._sets import DataSet, Source
from neurarium.data.volumes._nifti import read_nifti

_COLIN = DataSet(
    name="colin27",
    kind="volume",
    contents="T1 image of one head, its brain and its regions (AAL), 181 x 217 x 181 at 1 mm",
    licence="BSD-3 and the atlases' own terms",
    sources=(
        Source(
            "debian",
            {
                "ch2.nii": "707a360b809ba937f6c007231bcf7dc6e2d33657497b254414c9894b6efa5f8c",
                "ch2bet.nii": "521204362226d485c92ef5383327765b0344c99ff9ac60000a1f591ff0c3fb34",
                "aal.nii": "2926fcc98efc709f77c8cca2f9c1d797eba3e9a1b222a8e0cfa70ab131394c80",
            },
            name="mricron-data",
            member="usr/share/mricron/templates/{}.gz",
            megabytes=16.1,
        ),
    ),
)


@dataclass(frozen=True)
class Template:
    """Slices of one labelled brain.

    Args:
        images: in [0, 1], [slices, height, width].
        labels: of regions, 0 outside all of them.
        brain: 1 in the brain and 0 outside.
        structures: labels that occur in every slice.
    """

    images: Float[Tensor, "slices height width"]
    labels: Int[Tensor, "slices height width"]
    brain: Float[Tensor, "slices height width"]
    structures: tuple[int, ...]


@dataclass(frozen=True)
class Subjects:
    """Bent slices, a subject each.

    Args:
        images: in [0, 1], [subjects, height, width].
        labels: of regions.
        brain: 1 in the brain.
        structures: labels that occur in every slice of the template.
    """

    images: Float[Tensor, "subjects height width"]
    labels: Int[Tensor, "subjects height width"]
    brain: Float[Tensor, "subjects height width"]
    structures: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice | Tensor) -> Subjects:
        """Some of them."""
        return Subjects(self.images[rows], self.labels[rows], self.brain[rows], self.structures)

    def to(self, device: str | torch.device) -> Subjects:
        """The same on a device."""
        return Subjects(self.images.to(device), self.labels.to(device), self.brain.to(device), self.structures)


def colin27_template(size: int = 36, slices: int = 12, first: int = 100, step: int = 2) -> Template:
    """Coronal slices of Colin27, a real head; regions of both halves share a label (AAL's pairs, counted from 1).

    Fetched once from the Debian package ``mricron-data`` (16 MB) where it is not in the cache.

    Args:
        size: side in pixels of a square of 144 mm around the brain.
        slices: how many.
        first: the first one's place along the second axis, in mm.
        step: between two, in mm.

    Raises:
        DataError: the volumes cannot be reached; or ``size`` does not divide 144.
    """
    if 144 % size:
        raise DataError(f"size must divide 144, not {size}")
    files = obtain(_COLIN)
    head, brain, labels = (
        read_nifti(files[name])[18:162, first : first + slices * step : step, 12:156].permute(1, 2, 0).flip(1)
        for name in ("ch2.nii", "ch2bet.nii", "aal.nii")
    )
    cells = 144 // size
    images = F.avg_pool2d(head[:, None].float() / 254, cells)[:, 0]
    inside = (F.avg_pool2d((brain[:, None] > 0).float(), cells)[:, 0] > 0.5).float()
    paired = ((labels.long() + 1) // 2).unfold(1, cells, cells).unfold(2, cells, cells).flatten(3)
    return _template(images, paired.mode(3).values, inside, least=8)


def ellipsoid_template(size: int = 36, slices: int = 4) -> Template:
    """A made-up head of nested ellipses with six regions, for a trial without data.

    Args:
        size: side in pixels.
        slices: how many; the regions shrink a little from each to the next.
    """
    line = (2 * torch.arange(size) + 1) / size - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    images, labels, brains = [], [], []
    for n in range(slices):
        scale = 1 - 0.1 * n / slices
        skull = ((x / 0.9).square() + (y / 0.95).square() < scale**2).float()
        brain = ((x / 0.78).square() + (y / 0.83).square() < scale**2).float()
        regions = torch.zeros(size, size, dtype=torch.long)
        for k, (cx, cy, a, b) in enumerate(
            ((0.4, -0.4, 0.25, 0.2), (0.45, 0.2, 0.2, 0.3), (0.2, 0.55, 0.2, 0.15), (0.18, 0.0, 0.12, 0.22),
             (0.0, -0.6, 0.12, 0.12), (0.0, 0.3, 0.1, 0.16)), start=1,
        ):  # fmt: skip
            regions[(((x.abs() - cx * scale) / a).square() + ((y - cy * scale) / b).square() < scale**2)] = k
        images.append(0.9 * skull - 0.5 * brain + brain * (0.12 * (regions > 0) + 0.08 * (regions % 3)))
        labels.append(regions * brain.long())
        brains.append(brain)
    return _template(torch.stack(images), torch.stack(labels), torch.stack(brains), least=1)


def synthetic_subjects(
    template: Template, count: int, *, deform: float = 0.12, generator: torch.Generator | None = None
) -> Subjects:
    """Subjects from a template: a random slice each, bent by a smooth random field, a little lighter or darker.

    Args:
        template: labelled slices, yours or one of this room's.
        count: how many.
        deform: standard deviation of the field's control points, as a share of half the image's side.
        generator: source of the draws, on the CPU.
    """
    height, width = template.images.shape[1:]
    chosen = torch.randint(len(template.images), (count,), generator=generator)
    control = deform * torch.randn(count, 2, 5, 5, generator=generator)
    bend = F.interpolate(control, (height, width), mode="bicubic", align_corners=True).movedim(1, -1)
    scale = 1 + 0.5 * deform * torch.randn(count, 1, 1, 1, generator=generator)
    rows, columns = ((2 * torch.arange(n) + 1) / n - 1 for n in (height, width))
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    grid = torch.stack((x, y), -1) * scale + 0.5 * bend

    def bent(maps: Tensor, mode: str) -> Tensor:
        return F.grid_sample(maps[chosen][:, None].float(), grid, mode=mode, align_corners=False)[:, 0]

    gain = 1 + 0.1 * torch.randn(count, 1, 1, generator=generator)
    return Subjects(
        (bent(template.images, "bilinear") * gain).clamp(0, 1),
        bent(template.labels, "nearest").long(),
        bent(template.brain, "nearest"),
        template.structures,
    )


def _template(images: Tensor, labels: Tensor, brain: Tensor, least: int) -> Template:
    every: Sequence[int] = [
        k for k in labels.unique().tolist() if k and int((labels == k).flatten(1).sum(1).min()) >= least
    ]
    return Template(images.clamp(0, 1), labels, brain, tuple(every))
