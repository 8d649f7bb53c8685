"""Operations that take the largest (or least) of several entries: which entries, for every entry that comes out."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

POOLINGS: dict[str, Any] = {
    f"{kind}max_pool{d}d": getattr(nn, f"{kind.strip('_').title()}MaxPool{d}d")
    for kind in ("", "adaptive_") for d in (1, 2, 3)
}  # fmt: skip


@dataclass(frozen=True)
class Maximum:
    """The largest of some candidates, for each entry of the output.

    Args:
        candidates: affine forms, [dimensions + 1, candidates]: values at 0, then one row of slopes per dimension.
        windows: the candidates of each entry, -1 where there are fewer, [entries, window].
        shape: of the output, without the batch.
        sign: -1 where the least is taken: candidates and output are negated.
        paired: whether the operation gives places too, as ``max(dim)`` does.
    """

    candidates: Float[Tensor, "forms candidates"]
    windows: Int[Tensor, "entries window"]
    shape: tuple[int, ...]
    sign: float = 1.0
    paired: bool = False


def maximum_of(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Maximum | None:
    """What is taken the maximum of, where the operation is one; every affine form is a tensor [forms, *shape].

    Args:
        target: module, function or name of a method.
        args: its arguments, affine forms in the place of batches.
        kwargs: likewise.
    """
    if isinstance(target, tuple(POOLINGS.values())):
        return _pooled(target, args[0])
    name = target if isinstance(target, str) else getattr(target, "__name__", "")
    if name in POOLINGS:
        return _pooled(POOLINGS[name](*args[1:], **kwargs), args[0])
    if name in ("maximum", "minimum") or (name in ("max", "min") and len(args) > 1 and isinstance(args[1], Tensor)):
        return _larger(args[0], args[1], -1.0 if name.startswith("min") else 1.0)
    if name in ("amax", "amin", "max", "min"):
        sign = -1.0 if name in ("amin", "min") else 1.0
        options = dict(zip(("dim", "keepdim"), args[1:])) | kwargs
        return _over(args[0], options.get("dim"), bool(options.get("keepdim", False)), sign, name in ("max", "min"))
    return None


def _larger(first: Tensor, second: Tensor, sign: float) -> Maximum:
    first, second = torch.broadcast_tensors(first, second)
    count = first[0].numel()
    windows = torch.stack([torch.arange(count), torch.arange(count) + count], 1)
    return Maximum(sign * torch.cat([first.flatten(1), second.flatten(1)], 1), windows, tuple(first.shape[1:]), sign)


def _over(x: Tensor, dim: Any, keepdim: bool, sign: float, paired: bool) -> Maximum | None:
    """Maximum along dimensions, which do not take in the batch."""
    if dim is None:
        return None
    dims = [d % x.dim() for d in ([dim] if isinstance(dim, int) else dim)]
    if 0 in dims:
        return None
    index = torch.arange(x[0].numel()).reshape(x.shape[1:])
    kept = [d for d in range(1, x.dim()) if d not in dims]
    windows = index.permute([d - 1 for d in (*kept, *dims)]).reshape(math.prod(x.shape[d] for d in kept), -1)
    shape = [1 if d in dims else x.shape[d] for d in range(1, x.dim()) if keepdim or d not in dims]
    return Maximum(sign * x.flatten(1), windows, tuple(shape), sign, paired)


def _pooled(pool: Any, x: Tensor) -> Maximum:
    """Max pooling over 1, 2 or 3 dimensions, of fixed windows or to a fixed size."""
    dims = next(int(name[-2]) for name, kind in POOLINGS.items() if isinstance(pool, kind))
    sizes = tuple(x.shape[-dims:])
    out = tuple(pool(torch.zeros(1, 1, *sizes, dtype=x.dtype)).shape[-dims:])
    spots = []
    for axis, (size, count) in enumerate(zip(sizes, out)):
        if hasattr(pool, "output_size"):
            ends = [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
            spots.append([list(range(low, high)) for low, high in ends])
        else:
            kernel, stride, padding, dilation = (
                value if isinstance(value, int) else value[axis]
                for value in (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
            )
            spots.append([[i * stride - padding + dilation * k for k in range(kernel)] for i in range(count)])
    plane = []
    for place in itertools.product(*spots):
        inner = [c for c in itertools.product(*place) if all(0 <= i < size for i, size in zip(c, sizes))]
        plane.append([sum(i * math.prod(sizes[axis + 1 :]) for axis, i in enumerate(c)) for c in inner])
    widest = max(map(len, plane))
    windows = torch.tensor([row + [-1] * (widest - len(row)) for row in plane])
    channels = math.prod(x.shape[1:-dims])
    shift = torch.arange(channels)[:, None, None] * math.prod(sizes)
    every = torch.where(windows < 0, -1, windows + shift).reshape(-1, widest)
    return Maximum(x.flatten(1), every, (*x.shape[1:-dims], *out))
