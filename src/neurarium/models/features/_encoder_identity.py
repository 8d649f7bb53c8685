"""A fingerprint of a frozen encoder, so that what was learned on its features is not continued on those of another."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def encoder_identity(encoder: Any) -> str:
    """Equal for encoders of the same class with equal weights, for functions of the same code, and across processes.

    Of other objects the public attributes count (a leading underscore marks what is only kept for speed).

    Args:
        encoder: a module, a function, or an object that can be called or has ``encode``.
    """
    whole = hashlib.sha256()
    _add(whole, encoder, [])
    return whole.hexdigest()[:16]


def _add(whole: Any, value: Any, around: list[Any]) -> None:
    whole.update(f"{type(value).__module__}.{type(value).__qualname__}\0".encode())
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, torch.dtype)):
        whole.update(f"{value!r}\0".encode())
    elif isinstance(value, Tensor):
        whole.update(f"{value.dtype}{tuple(value.shape)}".encode())
        flat = value.detach().cpu().contiguous().flatten()
        whole.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    elif isinstance(value, type):
        whole.update(f"{value.__module__}.{value.__qualname__}\0".encode())
    elif isinstance(value, np.ndarray):
        whole.update(f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    elif all(value is not outer for outer in around):
        for part in _parts(value):
            _add(whole, part, [*around, value])


def _parts(value: Any) -> list[Any]:
    """What an object is made of, in an order of its own."""
    if isinstance(value, Mapping):
        return [part for key in value for part in (key, value[key])]
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, FunctionType):
        value = inspect.unwrap(value)
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        code = value.__code__
        constants = [c for c in code.co_consts if isinstance(c, (bool, int, float, str, bytes, tuple))]
        return [value.__module__, value.__qualname__, code.co_code, constants, value.__defaults__, cells]
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, nn.Module):
        whole: list[Any] = [
            text for name, module in value.named_modules() for text in (name, type(module).__qualname__)
        ]
        return [*whole, *(part for name, tensor in value.state_dict().items() for part in (name, tensor))]
    public = {name: part for name, part in getattr(value, "__dict__", {}).items() if not name.startswith("_")}
    return [public]
