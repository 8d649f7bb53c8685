"""Points of a model's parameter space: a module, a ``state_dict`` or one flat vector, checked against the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

Point = nn.Module | Mapping[str, Tensor] | Tensor
"""A point or direction in parameter space: a module, a mapping of names to tensors, or a vector in parameter order."""


def named_point(model: nn.Module, point: Point, what: str) -> dict[str, Tensor]:
    """The floating-point parameters of ``model`` by name, with the values of ``point``.

    Args:
        model: says which names and shapes there must be.
        point: a module, a mapping (a ``state_dict``; its buffers are ignored) or a vector in the order of
            `torch.nn.utils.parameters_to_vector`.
        what: the argument's name, for messages.

    Raises:
        ValueError: a name is missing or unknown, or a shape differs (the first one is named).
        TypeError: an integer parameter differs from the model's: there is nothing between two integers.
    """
    parameters = dict(model.named_parameters())
    if not parameters:
        raise ValueError("model has no parameters")
    if isinstance(point, Tensor):
        return _unflatten(parameters, point, what)
    given = dict(point.named_parameters()) if isinstance(point, nn.Module) else dict(point)
    known = parameters.keys() | model.state_dict().keys()
    for name in given:
        if name not in known:
            raise ValueError(f"{what} has a parameter {name!r} that the model has not")
    result = {}
    for name, parameter in parameters.items():
        if name not in given:
            raise ValueError(f"{what} has no parameter {name!r}")
        tensor = given[name].detach()
        if tensor.shape != parameter.shape:
            raise ValueError(
                f"{what} has {name!r} of shape {tuple(tensor.shape)}, but the model's is {tuple(parameter.shape)}"
            )
        if parameter.is_floating_point():
            result[name] = tensor.to(parameter)
        elif not torch.equal(tensor.to(parameter), parameter):
            raise TypeError(
                f"{what} differs from the model in {name!r} of {parameter.dtype}, which has no values between"
            )
    return result


def _unflatten(parameters: Mapping[str, Tensor], vector: Tensor, what: str) -> dict[str, Tensor]:
    whole = next((name for name, p in parameters.items() if not p.is_floating_point()), None)
    if whole is not None:
        raise TypeError(f"{what} must be a state_dict, because the model's {whole!r} is {parameters[whole].dtype}")
    size = sum(p.numel() for p in parameters.values())
    if vector.shape != (size,):
        raise ValueError(
            f"{what} must be a vector of the model's {size} parameters, not of shape {tuple(vector.shape)}"
        )
    pieces = vector.detach().split([p.numel() for p in parameters.values()])
    return {name: piece.view_as(p).to(p) for (name, p), piece in zip(parameters.items(), pieces)}


def grid(points: int | Sequence[float] | np.ndarray, span: tuple[float, float], what: str = "span") -> np.ndarray:
    """An increasing grid over ``span`` (or the given positions) that holds 0 and 1 exactly.

    Raises:
        ValueError: fewer than two points, a span that does not hold [0, 1], or positions that are not finite.
    """
    if isinstance(points, int):
        if points < 2:
            raise ValueError(f"points must be at least 2, not {points}")
        if not span[0] <= 0 < 1 <= span[1] or not all(map(math.isfinite, span)):
            raise ValueError(f"{what} must hold the interval from 0 to 1, not {span}")
        values = np.linspace(span[0], span[1], points)
    else:
        values = np.asarray(points, dtype=float).ravel()
        if values.size == 0 or not np.isfinite(values).all():
            raise ValueError("points must be finite numbers, at least one of them")
    for exact in (0.0, 1.0):
        values[np.abs(values - exact) < 1e-9] = exact
    return np.unique(np.concatenate([values, [0.0, 1.0]]))
