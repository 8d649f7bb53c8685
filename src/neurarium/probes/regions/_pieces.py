"""Activations that are linear in pieces: where these end, from a table; what they are, from the network itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Activation = Callable[[Tensor], Tensor]

BREAKS: dict[Any, Callable[..., Sequence[float]]] = {
    nn.ReLU: lambda m: (0.0,),
    nn.LeakyReLU: lambda m: (0.0,),
    nn.PReLU: lambda m: (0.0,),
    nn.RReLU: lambda m: (0.0,),
    nn.ReLU6: lambda m: (0.0, 6.0),
    nn.Hardtanh: lambda m: (m.min_val, m.max_val),
    nn.Hardsigmoid: lambda m: (-3.0, 3.0),
    nn.Hardshrink: lambda m: (-m.lambd, m.lambd),
    nn.Softshrink: lambda m: (-m.lambd, m.lambd),
    nn.Threshold: lambda m: (m.threshold,),
    "relu": lambda x, *a, **k: (0.0,),
    "leaky_relu": lambda x, *a, **k: (0.0,),
    "prelu": lambda x, *a, **k: (0.0,),
    "rrelu": lambda x, *a, **k: (0.0,),
    "relu6": lambda x, *a, **k: (0.0, 6.0),
    "abs": lambda x: (0.0,),
    "hardtanh": lambda x, min_val=-1.0, max_val=1.0, *a, **k: (min_val, max_val),
    "hardsigmoid": lambda x, *a, **k: (-3.0, 3.0),
    "hardshrink": lambda x, lambd=0.5: (-lambd, lambd),
    "softshrink": lambda x, lambd=0.5: (-lambd, lambd),
    "threshold": lambda x, threshold, *a, **k: (threshold,),
    "clamp": lambda x, min=None, max=None: [t for t in (min, max) if t is not None],
}
"""Modules by their class, functions and methods by their name -> where the pieces end."""

SMOOTH = (
    nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.ELU, nn.CELU, nn.SELU, nn.Softplus, nn.Mish, nn.Softsign, nn.LogSigmoid,
    nn.Tanhshrink, nn.Hardswish, "gelu", "silu", "tanh", "sigmoid", "elu", "celu", "selu", "softplus", "mish",
    "softsign", "logsigmoid", "tanhshrink", "hardswish", "sin", "cos", "exp", "erf", "square",
)  # fmt: skip
"""Activations that act on every unit by itself and have no pieces."""

SYNONYMS = {"absolute": "abs", "clip": "clamp", "log_sigmoid": "logsigmoid"}


@dataclass(frozen=True)
class Pieces:
    """On piece c of unit j the activation is ``slopes[c, j] * z + offsets[c, j]``.

    Args:
        breaks: where pieces end, [pieces - 1], in rising order.
        slopes: [pieces, units].
        offsets: [pieces, units].
        error: largest distance from the activation between the limits; 0 but for an interpolant.
    """

    breaks: Tensor
    slopes: Tensor
    offsets: Tensor
    error: float = 0.0


def measured(activation: Activation, breaks: Sequence[float], shape: torch.Size) -> Pieces:
    """The pieces of an activation that is linear between ``breaks``, from two of its values in each.

    Args:
        activation: acts on a batch [rows, *shape]; slopes that are learnt, one a channel, come out by themselves.
        breaks: where pieces end.
        shape: of what enters it, without the batch.
    """
    ends = sorted({float(t) for t in breaks if math.isfinite(t)})
    if not ends:
        ends = [0.0]
    points = [ends[0] - 2, ends[0] - 1]
    for low, high in itertools.pairwise(ends):
        points += [low + (high - low) / 4, low + (high - low) / 2]
    points += [ends[-1] + 1, ends[-1] + 2]
    x = torch.tensor(points, dtype=torch.float64)
    y = activation(x.reshape(-1, *[1] * len(shape)).expand(-1, *shape).clone()).reshape(len(points), -1)
    left, right = x[::2, None], x[1::2, None]
    slopes = (y[1::2] - y[::2]) / (right - left)
    return Pieces(torch.tensor(ends, dtype=torch.float64), slopes, y[::2] - slopes * left)


def interpolated(activation: Activation, count: int, limits: tuple[float, float], shape: torch.Size) -> Pieces:
    """A smooth activation by straight lines between ``count + 1`` of its points, and tangents beyond the last."""
    ends = torch.linspace(*limits, count + 1, dtype=torch.float64)

    def along(points: Tensor) -> Tensor:
        return activation(points.reshape(-1, *[1] * len(shape)).expand(-1, *shape)).reshape(len(points), -1)

    with torch.enable_grad():
        x = ends[[0, -1]].clone().requires_grad_()
        outer = [torch.autograd.grad(along(x).sum(0)[0], x)[0]]
    y = along(ends)
    inner = (y[1:] - y[:-1]) / (ends[1:] - ends[:-1])[:, None]
    slopes = torch.cat([outer[0][:1, None].expand(1, y.shape[1]), inner, outer[0][1:, None].expand(1, y.shape[1])])
    anchor, at = torch.cat([y[:1], y[:-1], y[-1:]]), torch.cat([ends[:1], ends[:-1], ends[-1:]])[:, None]
    offsets = anchor - slopes * at
    fine = torch.linspace(*limits, 64 * count + 1, dtype=torch.float64)
    piece = torch.bucketize(fine, ends)
    guess = slopes[piece] * fine[:, None] + offsets[piece]
    return Pieces(ends, slopes, offsets, float((guess - along(fine)).abs().max()))


def kind_of(target: Any) -> Any:
    """What the tables know a module or function by: the class, or the name without what varies."""
    if isinstance(target, nn.Module):
        return next((k for k in (*BREAKS, *SMOOTH) if isinstance(k, type) and isinstance(target, k)), None)
    name = (target if isinstance(target, str) else getattr(target, "__name__", "")).rstrip("_")
    return SYNONYMS.get(name, name)


def breaks_of(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[float] | None:
    """Where the pieces of an activation end; None where it is not one of the table's."""
    kind = kind_of(target)
    if kind not in BREAKS:
        return None
    found = BREAKS[kind](target) if isinstance(target, nn.Module) else BREAKS[kind](*args, **kwargs)
    if any(isinstance(end, Tensor) and end.numel() > 1 for end in found):
        return None
    return [float(end) for end in found]
