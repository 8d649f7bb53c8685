"""The functions that an edge of a Kolmogorov-Arnold network may be replaced by."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class EdgeFunction:
    """One function of a library.

    Args:
        torch: evaluates it on a tensor.
        sympy: gives its expression: ``sympy(module, argument)``, ``module`` being sympy.
        complexity: what choosing it costs.
        pieces: where the function has poles or ends, a number for the piece that an argument lies in, NaN for none; an
            edge may use one piece alone. None for a function that is smooth everywhere.
    """

    torch: Callable[[Tensor], Tensor]
    sympy: Callable[[Any, Any], Any]
    complexity: int
    pieces: Callable[[Tensor], Tensor] | None = None

    def __reduce__(self) -> Any:
        """A function of the library is stored by its name, so that a network with it can be saved whole."""
        for name, function in EDGE_FUNCTIONS.items():
            if function is self:
                return _named, (name,)
        return super().__reduce__()


def _named(name: str) -> EdgeFunction:
    return EDGE_FUNCTIONS[name]


def _sign(u: Tensor) -> Tensor:
    return torch.where(u == 0, torch.nan, u.sign())


def _positive(u: Tensor) -> Tensor:
    return torch.where(u > 0, 1.0, torch.nan)


EDGE_FUNCTIONS: dict[str, EdgeFunction] = {
    "x": EdgeFunction(lambda u: u, lambda s, u: u, 1),
    "x^2": EdgeFunction(lambda u: u * u, lambda s, u: u**2, 2),
    "1/x": EdgeFunction(lambda u: 1 / u, lambda s, u: 1 / u, 2, _sign),
    "exp": EdgeFunction(torch.exp, lambda s, u: s.exp(u), 2),
    "log": EdgeFunction(torch.log, lambda s, u: s.log(u), 2, _positive),
    "sqrt": EdgeFunction(torch.sqrt, lambda s, u: s.sqrt(u), 2, _positive),
    "sin": EdgeFunction(torch.sin, lambda s, u: s.sin(u), 2),
    "cos": EdgeFunction(torch.cos, lambda s, u: s.cos(u), 2),
    "x^3": EdgeFunction(lambda u: u * u * u, lambda s, u: u**3, 3),
    "abs": EdgeFunction(torch.abs, lambda s, u: s.Abs(u), 3),
    "tanh": EdgeFunction(torch.tanh, lambda s, u: s.tanh(u), 3),
    "gaussian": EdgeFunction(lambda u: torch.exp(-u * u), lambda s, u: s.exp(-(u**2)), 3),
    "tan": EdgeFunction(torch.tan, lambda s, u: s.tan(u), 3, lambda u: torch.round(u / torch.pi)),
    "arcsin": EdgeFunction(
        torch.arcsin, lambda s, u: s.asin(u), 4, lambda u: torch.where(u.abs() <= 1, 1.0, torch.nan)
    ),
    "arctan": EdgeFunction(torch.arctan, lambda s, u: s.atan(u), 4),
}
"""The library of the paper's code without its repetitions; complexities are the paper's."""


def chosen(names: Any, library: Mapping[str, EdgeFunction]) -> dict[str, EdgeFunction]:
    """Functions of a library by name.

    Raises:
        ValueError: a name is unknown; the message offers the nearest.
    """
    for name in names:
        if name not in library:
            near = difflib.get_close_matches(name, library, n=3, cutoff=0.0)
            raise ValueError(f"unknown function {name!r}; the nearest are {', '.join(near)}")
    return {name: library[name] for name in names}
