"""Folders of images, one sub-folder per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from neurarium.data.archives import BROKEN, check_size, reason
from neurarium.data.arrays import Arrays, Split
from neurarium.data.errors import DataError
from neurarium.data.splitting import FRACTIONS, split_arrays

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
PARTS = {"train": "train", "training": "train", "validation": "validation", "val": "validation", "test": "test"}
GREY = ("1", "L", "LA")
LARGEST_IMAGE = 1 << 26


def read_image_folder(folder: Path, fractions: tuple[float, float, float] | None, seed: int) -> Split:
    """``FOLDER/CLASS/IMAGE``, or ``FOLDER/train/CLASS/IMAGE`` and ``FOLDER/test/...`` (``validation`` if it is there).

    All images have one size. They come as uint8 [n, height, width] where all are grey, else [n, 3, height, width];
    classes are the sub-folders' names in alphabetical order.

    Raises:
        DataError: no images, a class without any, an unreadable image, or images of different sizes.
    """
    subfolders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    parts = {PARTS[path.name.lower()]: path for path in subfolders if path.name.lower() in PARTS}
    if parts and len(parts) == len(subfolders):
        if not {"train", "test"} <= parts.keys():
            raise DataError(f"{folder} has the part {' and '.join(parts)} but needs both train and test folders")
        if fractions is not None:
            raise DataError(f"{folder} is already split; leave split out")
        files = {part: list_images(path) for part, path in parts.items()}
        classes = tuple(sorted({name for name, _ in files["train"]}))
        for found in files.values():
            for name, path in found:
                if name not in classes:
                    raise DataError(f"{path} is of class {name!r}, which {parts['train']} lacks")
        every = [path for found in files.values() for _, path in found]
        images = iter(read_images(every))
        data = {}
        for part, found in files.items():
            x = torch.stack([next(images) for _ in found])
            data[part] = Arrays(x, torch.tensor([classes.index(name) for name, _ in found]))
        check_classes(classes, folder)
        return Split(data["train"], data.get("validation", data["train"][:0]), data["test"], classes, folder.name)
    found = list_images(folder)
    classes = tuple(sorted({name for name, _ in found}))
    check_classes(classes, folder)
    x = torch.stack(read_images([path for _, path in found]))
    y = torch.tensor([classes.index(name) for name, _ in found])
    return split_arrays(Arrays(x, y), fractions=fractions or FRACTIONS, seed=seed, classes=classes, name=folder.name)


def check_classes(classes: tuple[str, ...], folder: Path) -> None:
    """Refuse a single class."""
    if len(classes) < 2:
        raise DataError(f"{folder} has the one class {classes[0]!r} only; nothing can be learnt")


def list_images(folder: Path) -> list[tuple[str, Path]]:
    """Class name and path of every image below the class folders, in order."""
    found = []
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    for path in classes:
        images = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
        if not images:
            raise DataError(f"{path} has no images (of {', '.join(SUFFIXES)})")
        found += [(path.name, image) for image in images]
    if not found:
        raise DataError(f"{folder} has no sub-folders of images, one per class")
    return found


def read_images(paths: list[Path]) -> list[torch.Tensor]:
    """Images of one size as uint8 [height, width] where all are grey, else [3, height, width]."""
    size = None
    arrays = []
    for path in paths:
        try:
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > LARGEST_IMAGE:
                    raise DataError(f"{path} claims {image.width} x {image.height} pixels, too many")
                if size is None:
                    size = image.size
                    check_size(3 * size[0] * size[1] * len(paths), str(path.parent))
                if image.size != size:
                    raise DataError(
                        f"{path} is {image.width} x {image.height} but {paths[0]} is {size[0]} x {size[1]}; "
                        "make all images one size"
                    )
                arrays.append(np.asarray(image.convert("L" if image.mode in GREY else "RGB")))
        except DataError:
            raise
        except UnidentifiedImageError:
            raise DataError(f"{path} is not an image in the format that its name says") from None
        except (*BROKEN, SyntaxError, TypeError, LookupError, Image.DecompressionBombError) as error:
            raise DataError(f"{path} is not a readable image ({reason(error)})") from None
    if all(array.ndim == 2 for array in arrays):
        return [torch.from_numpy(array.copy()) for array in arrays]
    coloured = (np.stack([array] * 3, -1) if array.ndim == 2 else array for array in arrays)
    return [torch.from_numpy(array.transpose(2, 0, 1).copy()) for array in coloured]
