"""CIFAR-10-C and CIFAR-100-C as they are published: one file of images per corruption, five severities in a row."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from neurarium.data._arrays import Arrays
from neurarium.data._errors import DataError, nearest
from neurarium.data.known._cache import cache_folder, data_folders

CIFAR_C = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
"""The benchmark's fifteen corruptions."""
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""Four more that come with it, meant for validation."""


def cifar_c(
    kind: str,
    severity: int = 5,
    *,
    name: Literal["CIFAR-10-C", "CIFAR-100-C"] = "CIFAR-10-C",
    folder: str | Path | None = None,
) -> Arrays:
    """Test images under a corruption of the published benchmark (Hendrycks and Dietterich, 2019).

    Nothing is fetched: the archives (2.9 GB each, Zenodo records 2535967 and 3555552) are unpacked by hand, into a
    folder that ``NEURARIUM_DATA`` names or into the cache. Only the part that is asked for is read.

    Args:
        kind: one of `CIFAR_C`, or of the four more that come with them.
        severity: from 1 (light) to 5.
        name: the benchmark, and its folder's name.
        folder: where ``kind.npy`` and ``labels.npy`` are, if elsewhere.

    Returns:
        x: uint8 images [n, 3, 32, 32], in the order of the clean test set; y: classes [n].

    Raises:
        DataError: an unknown kind or severity, files that are not there, or that are not the benchmark's.
    """
    if kind not in CIFAR_C + EXTRA:
        raise DataError(f"kind {kind!r} is not a corruption of {name}: {nearest(kind, CIFAR_C + EXTRA)}")
    if severity not in (1, 2, 3, 4, 5):
        raise DataError(f"severity must be 1, 2, 3, 4 or 5, not {severity!r}")
    places = [Path(folder)] if folder is not None else [root / name for root in (*data_folders(), cache_folder())]
    home = next((place for place in places if (place / f"{kind}.npy").is_file()), None)
    if home is None:
        raise DataError(
            f"{kind}.npy of {name} is not in {' or '.join(map(str, places))}: unpack the benchmark's archive there"
        )
    images, labels = _read(home / f"{kind}.npy"), _read(home / "labels.npy")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or len(images) % 5:
        raise DataError(f"{home / f'{kind}.npy'} holds {images.dtype} {images.shape}, not uint8 images of 5 severities")
    if labels.shape != images.shape[:1]:
        raise DataError(f"{home / 'labels.npy'} holds {labels.shape} labels for {len(images)} images of {kind}.npy")
    each = len(images) // 5
    part = slice(each * (severity - 1), each * severity)
    x = torch.from_numpy(np.ascontiguousarray(images[part].transpose(0, 3, 1, 2)))
    return Arrays(x, torch.from_numpy(labels[part].astype(np.int64)))


def _read(path: Path) -> np.ndarray:
    """An array file, mapped and not read."""
    try:
        found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as fault:
        raise DataError(f"{path} cannot be read as an array: {fault}") from None
    return found
