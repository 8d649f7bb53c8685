"""How a strategy was built, to hold beside what it learned: a checkpoint must not continue another one."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn


def settings(strategy: nn.Module) -> dict[str, Any]:
    """The constructor's arguments that are numbers, words or frozen dataclasses, by name, and the class."""
    found: dict[str, Any] = {"class": type(strategy).__name__}
    for name in inspect.signature(type(strategy).__init__).parameters:
        value = getattr(strategy, name, None)
        if value is None or isinstance(value, (bool, int, float, str)):
            found[name] = value
        elif dataclasses.is_dataclass(value):
            found[name] = repr(value)
    return {name: value for name, value in found.items() if name not in ("self", "generator", "encoder")}


def check_settings(strategy: nn.Module, saved: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of a strategy that was built in another way.

    Raises:
        ValueError: a setting differs; the message names each.
    """
    mine = settings(strategy)
    other = [f"{name}={saved.get(name)!r}" for name in mine | dict(saved) if saved.get(name) != mine.get(name)]
    if other:
        raise ValueError(
            f"the checkpoint is of a {saved.get('class')} with {', '.join(other)}: build "
            f"{type(strategy).__name__} with the settings that it was saved with"
        )
