"""Image files to pixels: cameras' rotations, transparency, and more than eight bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from neurarium.data._archives import BROKEN, check_size, reason
from neurarium.data._errors import DataError

SUFFIXES = (
    ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"
)  # fmt: skip
UNREADABLE = (".heic", ".heif", ".avif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw", ".svg", ".psd")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
GREY = ("1", "L", "LA", "La")
LARGEST_IMAGE = 1 << 26


def read_images(paths: list[Path], size: int | None = None) -> tuple[list[UInt8[Tensor, ...]], str]:
    """Images as uint8 [height, width] where all are grey, else [3, height, width]; and a note on what was done.

    A picture is turned as its camera says (EXIF). What is transparent shows white. Images of more than eight bits, or
    of fractions, are scaled to bytes by one rule for all, so that they stay comparable: whole numbers by the bits that
    the largest needs, fractions as 0 to 1 or 0 to 255 if they lie so, else by the smallest and the largest.

    Args:
        paths: of the files, at least one.
        size: scale the shorter side to so many pixels and cut the middle out; None asks for one size of all.

    Raises:
        DataError: a file is unreadable or too large, or sizes differ.
    """
    arrays: list[NDArray[np.generic]] = []
    for path in paths:
        array = read_image(path, size)
        if not arrays:
            check_size(3 * array.shape[0] * array.shape[1] * len(paths), str(path.parent))
        elif array.shape[:2] != arrays[0].shape[:2]:
            (height, width), (first_height, first_width) = array.shape[:2], arrays[0].shape[:2]
            raise DataError(
                f"{path} is {width} x {height} but {paths[0]} is {first_width} x {first_height}; "
                "make all images one size, or give size=... (pixels)"
            )
        arrays.append(array)
    deep = [array for array in arrays if array.dtype != np.uint8]
    note = ""
    if deep:
        low, high = byte_range(deep)
        arrays = [to_bytes(array, low, high) for array in arrays]
        note = f"values from {low:g} (black) to {high:g} (white) scaled to bytes"
    if all(array.ndim == 2 for array in arrays):
        return [torch.from_numpy(array.copy()) for array in arrays], note
    coloured = (np.stack([array] * 3, -1) if array.ndim == 2 else array for array in arrays)
    return [torch.from_numpy(array.transpose(2, 0, 1).copy()) for array in coloured], note


def read_image(path: Path, size: int | None) -> NDArray[np.generic]:
    """One image as [height, width] or [height, width, 3], in bytes or, where it has more than eight bits, as it is.

    Raises:
        DataError: it is unreadable, empty or too large, or holds a value that is not finite.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > LARGEST_IMAGE:
                raise DataError(f"{path} claims {image.width} x {image.height} pixels, too many")
            picture = ImageOps.exif_transpose(image)
            if picture.has_transparency_data:
                grey = picture.mode in GREY
                over = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
                picture = picture.convert("L" if grey else "RGB")
            deep = picture.mode == "F" or picture.mode.startswith("I")
            if not deep:
                picture = picture.convert("L" if picture.mode in GREY else "RGB")
            if size is not None:
                if deep:
                    picture = Image.fromarray(np.asarray(picture, np.float32))
                picture = ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR)
            array = np.asarray(picture)
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{path} is not an image in the format that its name says") from None
    except (*BROKEN, SyntaxError, TypeError, LookupError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is not a readable image ({reason(error)})") from None
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(f"{path} holds a pixel that is not finite")
    return array


def byte_range(arrays: list[NDArray[np.generic]]) -> tuple[float, float]:
    """The values that become black and white."""
    low, high = float(min(array.min() for array in arrays)), float(max(array.max() for array in arrays))
    if all(array.dtype.kind in "iu" for array in arrays) and low >= 0:
        return 0.0, next(float(2**bits - 1) for bits in (8, 10, 12, 14, 16, 24, 32) if high < 2**bits)
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    if low >= 0 and high <= 255:
        return 0.0, 255.0
    return low, high


def to_bytes(array: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint8]:
    """Values from ``low`` to ``high`` as 0 to 255; bytes stay as they are."""
    if array.dtype == np.uint8:
        return array.astype(np.uint8)
    scaled = (array.astype(np.float64) - low) * (255.0 / max(high - low, 1e-300))
    return np.rint(scaled.clip(0, 255)).astype(np.uint8)
