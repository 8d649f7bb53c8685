"""Slices of one real brain with a region for each pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from neurarium.data._errors import DataError
from neurarium.data.known._cache import obtain
from neurarium.data.known._sets import DataSet, Source

SHAPE = (181, 217, 181)
"""Voxels upwards, forwards and to the right, of 1 mm."""
HEADER = 352
"""Bytes before the voxels of a NIfTI file."""
SET = DataSet(
    "colin27",
    kind="volume",
    contents="the T1 scan of one brain and 116 regions of it (AAL), 181 x 217 x 181",
    licence="BSD-3-Clause package, mixed atlases",
    sources=(
        Source(
            "debian",
            {
                "ch2bet.nii": "521204362226d485c92ef5383327765b0344c99ff9ac60000a1f591ff0c3fb34",
                "aal.nii": "2926fcc98efc709f77c8cca2f9c1d797eba3e9a1b222a8e0cfa70ab131394c80",
            },
            name="mricron-data",
            member="usr/share/mricron/templates/{}.gz",
            megabytes=16.1,
        ),
    ),
)
REGIONS = {
    "frontal": 28, "insula and cingulum": 36, "medial temporal": 42, "occipital": 56, "parietal": 70,
    "central grey": 78, "temporal": 90, "cerebellum": 116,
}  # fmt: skip
"""Name of each group of AAL's regions -> the last code in it."""


@dataclass(frozen=True)
class BrainSlices:
    """Planes of a volume, 1 mm a pixel.

    Args:
        images: how bright, 0 outside the brain.
        labels: 0 for background (and white matter), else a region's index in ``names``.
        positions: index of each plane in the volume.
        names: "background" and the regions.
    """

    images: UInt8[Tensor, "planes height width"]
    labels: Int64[Tensor, "planes height width"]
    positions: Int64[Tensor, " planes"]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)


def colin27_slices(
    plane: Literal["axial", "coronal", "sagittal"] = "axial", least: float = 0.1, *, whole: bool = False
) -> BrainSlices:
    """Planes through the Colin-27 brain (Holmes et al., 1998) with the regions of the AAL atlas.

    It is one brain, scanned 27 times and averaged: enough for tasks on shapes, not for statements about people.

    Args:
        plane: "axial" with the front at the top, "coronal" with the crown at the top, or "sagittal" with the crown at
            the top and the front at the right.
        least: share of a plane's pixels that must lie in a region; planes with less are left out.
        whole: all 116 regions by their code, in the place of eight groups of them.

    Raises:
        DataError: the files are not here and cannot be fetched.
        ValueError: an unknown plane, or a share that no plane reaches.
    """
    if plane not in ("axial", "coronal", "sagittal"):
        raise ValueError(f"plane must be 'axial', 'coronal' or 'sagittal', not {plane!r}")
    axis = ("axial", "coronal", "sagittal").index(plane)
    try:
        files = obtain(SET)
    except DataError as error:  # the table has no volumes, so the command that it names cannot fetch this one
        raise DataError(str(error).partition(", or run")[0]) from None
    scan, codes = (read_volume(files[name].read_bytes(), name) for name in ("ch2bet.nii", "aal.nii"))
    names = tuple(str(code) for code in range(1, 117)) if whole else tuple(REGIONS)
    if not whole:
        codes = np.where(codes > 0, 1 + np.searchsorted([*REGIONS.values()], codes), 0)
    # Both remaining axes grow upwards on paper and downwards in an image: the first of them is turned round.
    images, labels = (np.moveaxis(volume, axis, 0)[:, ::-1].copy() for volume in (scan, codes))
    kept = np.flatnonzero((labels > 0).mean((1, 2)) >= least)
    if not len(kept):
        raise ValueError(f"no {plane} plane has {least:.0%} of its pixels in a region")
    return BrainSlices(
        torch.from_numpy(images[kept]), torch.from_numpy(labels[kept].astype(np.int64)), torch.from_numpy(kept),
        ("background", *names),
    )  # fmt: skip


def read_volume(content: bytes, what: str) -> np.ndarray:
    """The voxels of a NIfTI file of bytes, [up, forwards, right].

    Raises:
        DataError: it is of another size or type.
    """
    header = np.frombuffer(content[:HEADER], "<i2") if len(content) >= HEADER else np.zeros(0, "<i2")
    sizes = tuple(int(n) for n in header[23:20:-1])
    if content[344:347] != b"n+1" or sizes != SHAPE or header[35] != 2 or len(content) != HEADER + np.prod(SHAPE):
        raise DataError(f"{what} is not a NIfTI volume of {' x '.join(map(str, SHAPE[::-1]))} bytes")
    return np.frombuffer(content, np.uint8, offset=HEADER).reshape(SHAPE)
