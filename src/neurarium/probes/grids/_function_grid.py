"""Evaluating a network on a grid of its inputs, and cutting a plane out of an input space of many dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.training import call, evaluation, prediction

Bounds = Sequence[float] | Sequence[Sequence[float]] | Tensor
CHUNK = 65_536


def box_of(bounds: Bounds, dimensions: int | None = None) -> Float[Tensor, "dimensions 2"]:
    """Low and high along every axis.

    Args:
        bounds: (low, high) for all axes alike, or a pair for each axis.
        dimensions: how many axes there are, for a single pair; default 2.

    Raises:
        ValueError: a low is not below its high, or they do not fit the dimensions.
    """
    box = torch.as_tensor(bounds, dtype=torch.float64).detach().cpu()
    if box.shape == (2,):
        box = box.expand(dimensions or 2, 2)
    if box.dim() != 2 or box.shape[1] != 2 or (dimensions is not None and len(box) != dimensions):
        raise ValueError(f"bounds must be (low, high) or such a pair for each axis, not of shape {tuple(box.shape)}")
    if not bool((box[:, 0] < box[:, 1]).all()) or not bool(box.isfinite().all()):
        raise ValueError("bounds must be finite, each low below its high")
    return box


def grid_points(box: Float[Tensor, "dimensions 2"], resolution: int) -> Float[Tensor, "points dimensions"]:
    """Points of a regular grid, ends included, the last axis fastest."""
    axes = [torch.linspace(float(low), float(high), resolution, dtype=torch.float64) for low, high in box]
    return torch.cartesian_prod(*axes).reshape(-1, len(box))


def evaluate(model: nn.Module | Callable[[Tensor], Any], points: Tensor) -> Float[Tensor, "points outputs"]:
    """Outputs at points, in double precision on the CPU; a network is in evaluation mode and left as it was.

    The points are given in the type and on the device of the network's weights.
    """
    place = next(iter(model.parameters()), None) if isinstance(model, nn.Module) else None
    x = points if place is None else points.to(place.device, place.dtype)
    found = []
    with torch.no_grad(), evaluation(*([model] if isinstance(model, nn.Module) else [])):
        for part in x.split(CHUNK):
            output = call(model, part) if isinstance(model, nn.Module) else prediction(model(part))
            found.append(output.reshape(len(part), -1).detach().cpu().double())
    return torch.cat(found)


class PlaneSlice(nn.Module):
    """A network on a plane of its input space: two coordinates in, its outputs out.

    Args:
        model: the network; it is kept, not copied.
        origin: the input at (0, 0).
        across: what the first coordinate adds.
        up: what the second coordinate adds.
    """

    origin: Tensor
    across: Tensor
    up: Tensor

    def __init__(self, model: nn.Module, origin: Tensor, across: Tensor, up: Tensor) -> None:
        super().__init__()
        self.model = model
        for name, tensor in (("origin", origin), ("across", across), ("up", up)):
            self.register_buffer(name, tensor.detach().clone())

    def forward(self, x: Float[Tensor, "batch 2"]) -> Any:
        """[batch, 2] -> what the network gives at these points of the plane."""
        wide = [-1] + [1] * self.origin.dim()
        a, b = (part.reshape(wide).to(self.origin) for part in x.unbind(1))
        return self.model(self.origin + a * self.across + b * self.up)


def plane_slice(model: nn.Module, points: Float[Tensor, "3 ..."]) -> PlaneSlice:
    """The plane through three examples, which lie at (0, 0), (1, 0) and on the line of ``x0 = const``, orthogonal axes.

    Both coordinates are in units of the distance between the first two points. What is found on a slice is true of the
    slice alone.

    Args:
        model: takes a batch of such examples.
        points: three examples that are not on a line.

    Raises:
        ValueError: not three, or on a line.
    """
    if len(points) != 3:
        raise ValueError(f"points must be three examples, not {len(points)}")
    origin, across, third = points[0], points[1] - points[0], points[2] - points[0]
    length = across.double().square().sum()
    flat = (third.double() * across.double()).sum() / length.clamp_min(1e-300)
    up = third.double() - flat * across.double()
    if float(length) == 0 or float(up.norm()) < 1e-9 * float(third.double().norm() + length.sqrt()):
        raise ValueError("points must not lie on a line")
    return PlaneSlice(model, origin, across, (up / up.norm() * length.sqrt()).to(across))
