"""What all contract checks share."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class ContractError(AssertionError):
    """A component breaks its room's contract."""


def require(condition: bool, component: Any, sentence: str) -> None:
    """Raise `ContractError` unless the condition holds.

    Args:
        condition: what must be true.
        component: the class or function under test.
        sentence: what the contract wants, as "must ...".
    """
    if not condition:
        raise ContractError(f"{getattr(component, '__name__', component)} {sentence}")


def public(room: str, kind: type | None = None) -> dict[str, Any]:
    """Public names of a room: concrete subclasses of ``kind``, or functions where no kind is given."""
    module = importlib.import_module(f"neurarium.{room}")
    found = {name: getattr(module, name) for name in sorted(module.__all__)}
    if kind is None:
        return {name: thing for name, thing in found.items() if inspect.isfunction(thing)}
    return {
        name: thing
        for name, thing in found.items()
        if inspect.isclass(thing) and issubclass(thing, kind) and thing is not kind and not inspect.isabstract(thing)
    }


def seeded(seed: int, make: Callable[..., Any], *arguments: Any) -> Any:
    """What ``make(*arguments)`` gives with torch seeded."""
    torch.manual_seed(seed)
    return make(*arguments)


def blobs(classes: int = 3, features: int = 8, examples: int = 96, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Well-separated classes in float32: inputs [examples, features] and labels [examples]."""
    generator = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(classes, features, generator=generator)
    y = torch.arange(examples) % classes
    return centres[y] + 0.5 * torch.randn(examples, features, generator=generator), y


def same(a: Any, b: Any) -> bool:
    """Whether two tensors, or two nests of dictionaries and sequences of tensors, are equal to the last bit."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.shape == b.shape and a.dtype == b.dtype and bool(torch.equal(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)
