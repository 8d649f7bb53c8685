"""Array files: NPZ, NPY and torch-saved tensors, checked before they are believed."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neurarium.data._archives import BROKEN, check_size, open_zip, read_npy, read_npz, reason
from neurarium.data._arrays import Arrays, Split
from neurarium.data._errors import DataError, nearest
from neurarium.data._precision import Precision
from neurarium.data._splitting import FRACTIONS, split_arrays

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Examples:
    """Checked inputs, and targets before classes are numbered."""

    x: Tensor
    y: np.ndarray
    y_name: str


def read_npz_parts(path: Path, target: str | None) -> dict[str, Examples]:
    """``x`` and ``y``, or ``train_x``, ``train_y``, ``test_x``, ``test_y`` (and ``validation_*``; ``x_train`` too)."""
    return pick_parts(read_npz(path), target, path)


def read_npy_parts(path: Path, target: str | None) -> dict[str, Examples]:
    """Inputs from one NPY file and targets from another, named by ``target``."""
    if target is None:
        raise DataError(f"name the NPY file of the targets of {path} with target=...")
    y_path = Path(target)
    if y_path.suffix.lower() != ".npy" or not y_path.is_file():
        raise DataError(f"target must name the NPY file of the targets of {path}, unlike {target!r}")
    x, y = (read_npy(file.read_bytes(), str(file)) for file in (path, y_path))
    return {"all": checked(x, y, str(path), str(y_path))}


def read_torch_parts(path: Path, target: str | None) -> dict[str, Examples]:
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


def read_safetensors_parts(path: Path, target: str | None) -> dict[str, Examples]:
    """Tensors named as in an NPZ file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, *BROKEN) as error:
        raise DataError(f"{path} is not a readable safetensors file ({reason(error)})") from None
    return pick_parts(
        {name: plain_array(tensor, f"{path}: {name!r}") for name, tensor in tensors.items()}, target, path
    )


def plain_array(tensor: Tensor, what: str) -> np.ndarray:
    """The values of a dense tensor that really has all its elements."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise DataError(f"{what} must be dense, not {tensor.layout} on {tensor.device}")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise DataError(f"{what} claims the shape {tuple(tensor.shape)} but holds fewer values; save a contiguous one")
    tensor = tensor.detach().resolve_conj().resolve_neg()
    return (tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor).numpy()


def pick_parts(arrays: Mapping[str, np.ndarray], target: str | None, path: Path) -> dict[str, Examples]:
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
        part: checked(arrays[x], arrays[y], f"{path}: array {x!r}", f"{path}: array {y!r}")
        for part, (x, y) in pairs.items()
    }


def checked(x: np.ndarray, y: np.ndarray, x_name: str, y_name: str) -> Examples:
    """Inputs and targets whose shapes and types can be used.

    Inputs stay uint8 or become float32; float64 and long whole numbers stay until the training part is known. Targets
    are quantities (floating-point) or class values (whole numbers, text); one-hot rows are class values.

    Raises:
        DataError: shapes or lengths that do not fit, types that are not numbers, NaN, infinity.
    """
    if x.ndim < 2:
        raise DataError(f"{x_name} must have a row per example, [n, ...], not the shape {x.shape}")
    if x.ndim == 4 and x.shape[1] not in (1, 3, 4) and x.shape[3] in (1, 3, 4):
        raise DataError(f"{x_name} has channels last, {x.shape}; store images as [n, channels, height, width]")
    if y.ndim == 0 or len(x) != len(y):
        raise DataError(f"{x_name} has {len(x)} examples but {y_name} has {len(y) if y.ndim else 'a single value'}")
    if len(x) == 0 or x.size == 0:
        raise DataError(f"{x_name} is empty: its shape is {x.shape}")
    inputs = torch.from_numpy(x) if x.dtype == np.uint8 else numbers(x, x_name)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.dtype.kind in "biuf" and y.ndim == 2 and bool(((y == 1).sum(1) == 1).all() and ((y == 0) | (y == 1)).all()):
        y = y.argmax(1)  # one-hot
    if y.dtype.kind == "f":
        return Examples(inputs, numbers(y.astype(np.float32), y_name).numpy(), y_name)
    if y.dtype.kind not in "biuUS":
        raise DataError(f"{y_name} must hold class indices, names or numbers, not {y.dtype}")
    if y.ndim != 1:
        raise DataError(
            f"{y_name} must be one class per example, [n], or one-hot, not {y.shape}; "
            "store quantities as floating-point numbers"
        )
    if y.dtype.kind in "US":
        decoded = y.astype(str) if y.dtype.kind == "U" else np.char.decode(y, "utf-8", "replace")
        return Examples(inputs, np.char.strip(decoded), y_name)
    return Examples(inputs, y.astype(np.uint8 if y.dtype.kind == "b" else y.dtype), y_name)


def numbers(array: np.ndarray, name: str) -> Tensor:
    """Finite numbers as float32, or as float64 where they are so precise."""
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name} must hold numbers, not {array.dtype}")
    precise = array.dtype.itemsize >= 4 and array.dtype != np.float32
    check_size(array.size * (8 if precise else 4), name)
    values = torch.from_numpy(np.ascontiguousarray(array, np.float64 if precise else np.float32))
    if not values.isfinite().all():
        first = tuple((~values.isfinite()).nonzero()[0].tolist())
        raise DataError(f"{name} is {array[first]} in row {first[0] + 1}; give it a finite value, or leave the row out")
    return values


def split_parts(
    parts: Mapping[str, Examples], fractions: tuple[float, float, float] | None, seed: int, name: str
) -> Split:
    """The split that a file holds, or a random one of its examples; classes are the values of the training targets.

    Raises:
        DataError: ``fractions`` are given for a file that is already split, or the examples cannot be used.
    """
    classes = class_values(parts, name)
    arrays = {part: Arrays(examples.x, labels(examples, classes)) for part, examples in parts.items()}
    names = tuple(str(value) for value in classes)
    if "all" in arrays:
        try:
            split = split_arrays(arrays["all"], fractions=fractions or FRACTIONS, seed=seed, classes=names, name=name)
        except DataError as error:
            if classes and not isinstance(classes[0], str):
                raise DataError(
                    f"{error}; store the targets as floating-point numbers if they are quantities"
                ) from None
            raise
    elif fractions is not None:
        raise DataError(f"{name} is already split; leave split out")
    else:
        validation = arrays.get("validation", arrays["train"][:0])
        split = Split(arrays["train"], validation, arrays["test"], names, name)
    return narrowed(split)


def class_values(parts: Mapping[str, Examples], name: str) -> list[int] | list[str]:
    """The sorted class values of the training part; none for quantities.

    Raises:
        DataError: inputs or targets differ in kind between parts, or all training targets are equal.
    """
    first = parts.get("train", parts.get("all"))
    if first is None:
        raise DataError(f"{name} has no training examples")
    for part, examples in parts.items():
        if examples.x.shape[1:] != first.x.shape[1:] or (examples.x.dtype == torch.uint8) != (
            first.x.dtype == torch.uint8
        ):
            raise DataError(
                f"{name}: {part} inputs are {examples.x.dtype} {tuple(examples.x.shape[1:])} but training ones are "
                f"{first.x.dtype} {tuple(first.x.shape[1:])}"
            )
        kinds = {"i": "number", "u": "number"}
        kind, wanted = (kinds.get(one.y.dtype.kind, one.y.dtype.kind) for one in (examples, first))
        if kind != wanted or examples.y.shape[1:] != first.y.shape[1:]:
            raise DataError(f"{name}: {part} targets differ in type or shape from those of training")
    if (first.y == first.y[0]).all():
        raise DataError(f"{name}: the target is {first.y[0].tolist()} in every row; nothing can be learnt")
    return [] if first.y.dtype.kind == "f" else np.unique(first.y).tolist()


def labels(examples: Examples, classes: list[int] | list[str]) -> Tensor:
    """Class indices int64, or quantities as they are.

    Raises:
        DataError: a class that no training example has.
    """
    if not classes:
        return torch.from_numpy(examples.y)
    known = np.array(classes, examples.y.dtype if examples.y.dtype.kind in "iu" else None)
    index = np.searchsorted(known, examples.y).clip(max=len(known) - 1)
    strange = known[index] != examples.y
    if strange.any():
        row = int(strange.argmax())
        raise DataError(
            f"{examples.y_name} is {examples.y[row]} in row {row + 1}, a class that no training example has"
        )
    return torch.from_numpy(index.astype(np.int64))


def narrowed(split: Split) -> Split:
    """Inputs as float32; columns that it could not tell apart are standardised first, by the training part."""
    if all(part.x.dtype != torch.float64 for part in (split.train, split.validation, split.test)):
        return split
    shape = split.train.x.shape
    precision = Precision.of(split.train.x.numpy().reshape(len(split.train), -1).astype(np.float64))

    def narrow(x: Tensor) -> Tensor:
        flat = x.numpy().reshape(len(x), math.prod(shape[1:])).astype(np.float64)
        return torch.from_numpy(precision.narrow(flat)).reshape(len(x), *shape[1:])

    return split.map_inputs(narrow)
