"""The contract of probes."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable
from typing import Any

from torch import nn

from neurarium.probes import ProbeResult
from neurarium.testing.contract import require


def check_probe(function: Callable[..., Any]) -> None:
    """A probe is a function that says it returns a `ProbeResult` (or a module, where it gives a changed copy of one).

    Raises:
        ContractError: one sentence that says what is wanted.
    """
    returned = typing.get_type_hints(function).get("return")
    fits = inspect.isclass(returned) and issubclass(returned, (ProbeResult, nn.Module))
    require(fits, function, "must be annotated to return a ProbeResult")
    require(bool(inspect.getdoc(function)), function, "must say in its docstring what it measures")


def check_probe_result(result_class: type[ProbeResult]) -> None:
    """A result is a frozen dataclass that can say and draw what was found.

    Raises:
        ContractError: one sentence that says what is wanted.
    """
    require(dataclasses.is_dataclass(result_class), result_class, "must be a dataclass")
    frozen = result_class.__dataclass_params__.frozen  # type: ignore[attr-defined]
    require(frozen, result_class, "must be frozen")
    require("ax" in inspect.signature(result_class.plot).parameters, result_class, "must draw on the axes it is given")
