"""Array files: NPZ, NPY and torch-saved tensors, checked before they are believed."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neurarium.data.archives import BROKEN, check_size, open_zip, read_npy, read_npz, reason
from neurarium.data.arrays import Arrays, Split
from neurarium.data.errors import DataError, nearest
from neurarium.data.splitting import FRACTIONS, split_arrays

PARTS = ("train", "validation", "test")


def read_npz_parts(path: Path, target: str | None) -> dict[str, Arrays]:
    """``x`` and ``y``, or ``train_x``, ``train_y``, ``test_x``, ``test_y`` (and ``validation_*``; ``x_train`` too)."""
    return pick_parts(read_npz(path), target, path)


def read_npy_parts(path: Path, target: str | None) -> dict[str, Arrays]:
    """Inputs from one NPY file and targets from another, named by ``target``."""
    if target is None:
        raise DataError(f"name the NPY file of the targets of {path} with target=...")
    y_path = Path(target)
    if y_path.suffix.lower() != ".npy" or not y_path.is_file():
        raise DataError(f"target must name the NPY file of the targets of {path}, unlike {target!r}")
    x, y = (read_npy(file.read_bytes(), str(file)) for file in (path, y_path))
    return {"all": make_arrays(x, y, str(path), str(y_path))}


def read_torch_parts(path: Path, target: str | None) -> dict[str, Arrays]:
    """A dictionary of tensors named as in an NPZ file, or a pair (x, y).

    Raises:
        DataError: anything but tensors inside (nothing is unpickled), a damaged file, or tensors that claim more
            than the file holds.
    """
    with open_zip(path, str(path)):  # also what makes a bomb or an old pickle file end here
        pass
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise DataError(f"{path} holds Python objects, which could run code; save plain tensors") from None
    except (*BROKEN, LookupError, AttributeError, TypeError, AssertionError, MemoryError) as error:
        raise DataError(f"{path} is not a readable torch file ({reason(error)})") from None
    if isinstance(content, tuple | list) and len(content) == 2:
        content = dict(zip(("x", "y"), content))
    if not isinstance(content, Mapping):
        raise DataError(f"{path} must hold a dictionary of tensors or a pair (x, y), not {type(content).__name__}")
    arrays = {}
    for name, tensor in content.items():
        if not isinstance(tensor, Tensor):
            raise DataError(f"{path}: {name!r} must be a tensor, not {type(tensor).__name__}")
        arrays[str(name)] = plain_array(tensor, f"{path}: tensor {name!r}")
    return pick_parts(arrays, target, path)


def plain_array(tensor: Tensor, what: str) -> np.ndarray:
    """The values of a dense tensor that really has all its elements."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise DataError(f"{what} must be dense, not {tensor.layout} on {tensor.device}")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise DataError(f"{what} claims the shape {tuple(tensor.shape)} but holds fewer values; save a contiguous one")
    tensor = tensor.detach().resolve_conj().resolve_neg()
    return (tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor).numpy()


def pick_parts(arrays: Mapping[str, np.ndarray], target: str | None, path: Path) -> dict[str, Arrays]:
    """Inputs and targets by part (``all`` where the file is not split) from arrays by name.

    Raises:
        DataError: an array that belongs to another is missing, or nothing is called as it should be.
    """
    if target is not None and target not in arrays:
        raise DataError(f"{path} has no array {target!r}; {nearest(target, arrays)}")
    if target is not None or "x" in arrays or "y" in arrays:
        pairs = {"all": ("x", target or "y")}
    else:
        pairs = {}
        for part in PARTS:
            for x, y in ((f"{part}_x", f"{part}_y"), (f"x_{part}", f"y_{part}")):
                if x in arrays or y in arrays:
                    pairs[part] = (x, y)
    if not pairs:
        raise DataError(f"{path} must hold x and y, or train_x, train_y, test_x, test_y; {nearest('', arrays)}")
    for pair in pairs.values():
        for name in pair:
            if name not in arrays:
                raise DataError(f"{path} has no array {name!r}; {nearest(name, arrays)}")
    if "all" not in pairs and not {"train", "test"} <= pairs.keys():
        raise DataError(f"{path} has {' and '.join(pairs)} arrays but needs both train and test ones")
    return {
        part: make_arrays(arrays[x], arrays[y], f"{path}: array {x!r}", f"{path}: array {y!r}")
        for part, (x, y) in pairs.items()
    }


def make_arrays(x: np.ndarray, y: np.ndarray, x_name: str, y_name: str) -> Arrays:
    """Checked inputs and targets as tensors.

    Inputs are float32, or uint8 as they are; targets int64 class indices or float32.

    Raises:
        DataError: shapes or lengths that do not fit, types that are not numbers, NaN, infinity, negative classes.
    """
    if x.ndim < 2:
        raise DataError(f"{x_name} must have a row per example, [n, ...], not the shape {x.shape}")
    if x.ndim == 4 and x.shape[1] not in (1, 3, 4) and x.shape[3] in (1, 3, 4):
        raise DataError(f"{x_name} has channels last, {x.shape}; store images as [n, channels, height, width]")
    if len(x) != len(y):
        raise DataError(f"{x_name} has {len(x)} examples but {y_name} has {len(y)}")
    if len(x) == 0 or x.size == 0:
        raise DataError(f"{x_name} is empty: its shape is {x.shape}")
    inputs = torch.from_numpy(x) if x.dtype == np.uint8 else numbers(x, x_name)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.dtype.kind == "f":
        return Arrays(inputs, numbers(y, y_name))
    if y.dtype.kind not in "biu":
        raise DataError(f"{y_name} must hold class indices or numbers, not {y.dtype}")
    if y.ndim != 1:
        raise DataError(f"{y_name} must be one class index per example, [n], not {y.shape}; one-hot needs argmax(1)")
    labels = y.astype(np.int64)
    if labels.min() < 0:
        raise DataError(f"{y_name} is {labels.min()} in row {labels.argmin() + 1}; a class index cannot be negative")
    return Arrays(inputs, torch.from_numpy(labels))


def numbers(array: np.ndarray, name: str) -> Tensor:
    """Finite numbers as float32."""
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name} must hold numbers, not {array.dtype}")
    check_size(array.size * 4, name)
    with np.errstate(over="ignore"):
        values = torch.from_numpy(np.ascontiguousarray(array, np.float32))
    if not values.isfinite().all():
        first = tuple((~values.isfinite()).nonzero()[0].tolist())
        row, worst = first[0], array[first]
        what = f"{worst}" if not np.isfinite(worst) else f"{worst}, too large for float32,"
        raise DataError(f"{name} is {what} in row {row + 1}; give it a finite value")
    return values


def label_names(parts: Mapping[str, Arrays], name: str) -> tuple[str, ...]:
    """Class names, ``"0"`` and on, of class indices without gaps; none for regression.

    Raises:
        DataError: one class only, a class that training lacks, targets all equal, or parts of different kinds.
    """
    first = parts.get("train", parts.get("all"))
    if first is None:
        raise DataError(f"{name} has no training examples")
    for part, arrays in parts.items():
        if arrays.x.shape[1:] != first.x.shape[1:] or arrays.x.dtype != first.x.dtype:
            raise DataError(
                f"{name}: {part} inputs are {arrays.x.dtype} {tuple(arrays.x.shape[1:])} but training ones are "
                f"{first.x.dtype} {tuple(first.x.shape[1:])}"
            )
        if arrays.y.dtype != first.y.dtype or arrays.y.shape[1:] != first.y.shape[1:]:
            raise DataError(f"{name}: {part} targets differ in type or shape from those of training")
    if bool((first.y == first.y[0]).all()):
        raise DataError(f"{name}: the target is {first.y[0].tolist()} in every row; nothing can be learnt")
    if first.y.is_floating_point():
        return ()
    top = max(int(arrays.y.max()) for arrays in parts.values())
    if top >= len(first):  # also keeps bincount from allocating by a stray huge label
        raise DataError(f"{name}: the class index {top} is larger than the number of training examples, {len(first)}")
    counts = first.y.bincount(minlength=top + 1)
    if bool((counts == 0).any()):
        raise DataError(f"{name}: class {int((counts == 0).nonzero()[0])} of 0-{top} has no training example")
    return tuple(str(label) for label in range(top + 1))


def split_parts(
    parts: Mapping[str, Arrays], fractions: tuple[float, float, float] | None, seed: int, name: str
) -> Split:
    """The split that a file holds, or a random one of its examples.

    Raises:
        DataError: ``fractions`` are given for a file that is already split, or the examples cannot be used.
    """
    classes = label_names(parts, name)
    if "all" in parts:
        return split_arrays(parts["all"], fractions=fractions or FRACTIONS, seed=seed, classes=classes, name=name)
    if fractions is not None:
        raise DataError(f"{name} is already split; leave split out")
    return Split(parts["train"], parts.get("validation", parts["train"][:0]), parts["test"], classes, name)
