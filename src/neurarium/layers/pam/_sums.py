"""Sums of piecewise affine products, tile by tile: matrix product, linear map, convolution."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad, unfold

from neurarium.layers.pam._bits import Extent, extent, format_of, in_range, product, product_slope
from neurarium.layers.pam._elementary import offset_bits

TILE = 1 << 17
"""Products held at a time: what stays in a core's cache. Longer sums than this are held whole."""

Term = Callable[[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]], Tensor]
"""(tiles over rows and sum, over sum and columns, over rows and columns), to broadcast -> the terms."""


class _Matmul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, offset: int, approximate: bool) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.offset, ctx.approximate = offset, approximate
        return sum_of_products(a, b, offset)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        by_a: Tensor | None = None
        by_b: Tensor | None = None
        if ctx.needs_input_grad[0]:
            by_a = sum_of_products(grad, b.mT, ctx.offset) if ctx.approximate else sum_of_slopes(grad, a, b, ctx.offset)
        if ctx.needs_input_grad[1]:
            by_b = (
                sum_of_products(a.mT, grad, ctx.offset)
                if ctx.approximate
                else sum_of_slopes(grad.mT, b.mT, a.mT, ctx.offset).mT
            )
        return by_a, by_b, None, None


def sum_of_products(a: Tensor, b: Tensor, offset: int = 0) -> Tensor:
    """``sum_k PAM(a_ik, b_kj)`` of stacks of matrices [batch, n, k] and [batch, k, m]; sums in float32 at least."""
    f = format_of(a)
    if not (a.numel() and b.numel()):
        return a.new_zeros(*a.shape[:2], b.shape[2])
    ea, eb = extent(a), extent(b)
    if not in_range(ea, eb, a.dtype):
        return _tiled([a], [b], [], lambda left, right, _: product(left[0], right[0], offset), a.dtype)
    left = _with_mask([a.view(f.integer) - (f.one - offset)], ea)
    right = _with_mask([b.view(f.integer)], eb)

    def term(left: Sequence[Tensor], right: Sequence[Tensor], _: Sequence[Tensor]) -> Tensor:
        bits = left[0] + right[0]  # the sign bits add up by themselves, modulo two
        for mask in (*left[1:], *right[1:]):
            bits.bitwise_and_(mask)
        return bits.view(a.dtype)

    return _tiled(left, right, [], term, a.dtype)


def sum_of_slopes(grad: Tensor, a: Tensor, b: Tensor, offset: int = 0) -> Tensor:
    """The exact derivative by ``a``: ``sum_j PAM(grad_ij, d PAM(a_ik, b_kj) / d a_ik)``, [batch, n, k]."""
    f = format_of(a)
    b = b.mT
    if not (grad.numel() and b.numel()):
        return torch.zeros_like(a)
    eg, eb = extent(grad), extent(b)
    if not in_range(eg, eb, a.dtype, spare=3):  # slopes are within two powers of two of b

        def guarded(left: Sequence[Tensor], right: Sequence[Tensor], own: Sequence[Tensor]) -> Tensor:
            return product(left[0], product_slope(own[0], right[0], offset))

        return _tiled([grad], [b], [a], guarded, a.dtype)
    ib = b.view(f.integer)
    left = _with_mask([grad.view(f.integer) - f.one], eg)
    right = _with_mask([ib & f.mantissa, ib & ~f.mantissa], eb)

    def term(left: Sequence[Tensor], right: Sequence[Tensor], own: Sequence[Tensor]) -> Tensor:
        bits = (own[0] + right[0]).bitwise_and_(~f.mantissa)  # the carry of the two mantissas
        bits = bits.add_(right[1]) + left[0]
        for mask in (*left[1:], *right[2:]):
            bits.bitwise_and_(mask)
        return bits.view(a.dtype)

    return _tiled(left, right, [(a.view(f.integer) & f.mantissa) + offset], term, a.dtype)


def _with_mask(parts: list[Tensor], known: Extent) -> list[Tensor]:
    return parts if known.mask is None else [*parts, known.mask]


def _tiled(
    left: Sequence[Tensor], right: Sequence[Tensor], own: Sequence[Tensor], term: Term, dtype: torch.dtype
) -> Tensor:
    """Sum terms over the middle index, tile by tile, the longest other axis last, where the processor's vectors are.

    Args:
        left: [batch, n, k] each.
        right: [batch, k, m] each.
        own: [batch, n, m] each.
        term: makes the terms of a tile.
        dtype: of the result [batch, n, m].
    """
    (batch, n, k), m = left[0].shape, right[0].shape[2]
    sizes = (batch, n, m)
    # Axes of a tile: two that are looped over, the one that is summed, the vector; as positions in [batch, n, m, k].
    order = (1, 2, 3, 0) if batch > max(n, m) else (0, 1, 3, 2) if m >= n else (0, 2, 3, 1)
    kept = [axis for axis in order if axis != 3]
    operands = [
        [x.permute(order).contiguous() for x in part]
        for part in (
            [x.unsqueeze(2) for x in left], [x.mT.unsqueeze(1) for x in right], [x.unsqueeze(3) for x in own],
        )
    ]  # fmt: skip
    wide = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
    result = torch.empty([sizes[axis] for axis in kept], dtype=dtype, device=left[0].device)
    first, second, last = result.shape
    vector = min(last, max(1, TILE // max(1, k)))
    inner = min(second, max(1, TILE // max(1, k * vector)))
    outer = min(first, max(1, TILE // max(1, k * vector * inner)))
    for cut in itertools.product(range(0, first, outer), range(0, second, inner), range(0, last, vector)):
        tiles = [[_cut(x, cut, (outer, inner, vector)) for x in part] for part in operands]
        here = tuple(slice(start, start + size) for start, size in zip(cut, (outer, inner, vector)))
        result[here] = term(*tiles).sum(2, dtype=wide)
    return result.permute([kept.index(axis) for axis in range(3)])


def _cut(x: Tensor, starts: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """A tile of an operand: axes of size 1 broadcast, the summed axis stays whole."""
    for axis, start, size in zip((0, 1, 3), starts, sizes):
        if x.shape[axis] > 1:
            x = x.narrow(axis, start, min(size, x.shape[axis] - start))
    return x


def matmul(a: Tensor, b: Tensor, *, offset: float | None = None, approximate_backward: bool = True) -> Tensor:
    """Matrix product of piecewise affine products, ``sum_k mul(a_ik, b_kj)``; the sums are ordinary float sums.

    Shapes as for `torch.matmul` of tensors with two dimensions or more. Half types are summed in float32. Memory beyond
    operands and result: one tile.

    Args:
        a: [..., n, k].
        b: [..., k, m], of the same float type.
        offset: see `mul`.
        approximate_backward: see `mul`; the exact derivative costs about twice as much.

    Raises:
        TypeError: integers, or two types.
        ValueError: fewer than two dimensions, or shapes that do not fit.
    """
    if a.dtype != b.dtype:
        raise TypeError(f"both operands must have one dtype, not {a.dtype} and {b.dtype}")
    bits = offset_bits(offset, a)
    format_of(a)
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise ValueError(f"a [..., n, k] and b [..., k, m] must fit, not {tuple(a.shape)} and {tuple(b.shape)}")
    if b.ndim == 2:  # one matrix for all: its rows' batches become one
        flat = _Matmul.apply(a.reshape(1, -1, a.shape[-1]), b.unsqueeze(0), bits, approximate_backward)
        return flat.reshape(*a.shape[:-1], b.shape[-1])
    stack = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    left = a.expand(*stack, *a.shape[-2:]).reshape(-1, *a.shape[-2:])
    right = b.expand(*stack, *b.shape[-2:]).reshape(-1, *b.shape[-2:])
    return _Matmul.apply(left, right, bits, approximate_backward).reshape(*stack, a.shape[-2], b.shape[-1])


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, offset: float | None = None,
    approximate_backward: bool = True,
) -> Tensor:  # fmt: skip
    """`torch.nn.functional.linear` of piecewise affine products.

    Args:
        x: [..., in_features].
        weight: [out_features, in_features].
        bias: [out_features].
        offset: see `mul`.
        approximate_backward: see `mul`.
    """
    y = matmul(x if x.ndim > 1 else x.unsqueeze(0), weight.mT, offset=offset, approximate_backward=approximate_backward)
    y = y if x.ndim > 1 else y.squeeze(0)
    return y if bias is None else y + bias


def conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0, dilation: int | tuple[int, int] = 1, groups: int = 1, *,
    offset: float | None = None, approximate_backward: bool = True,
) -> Tensor:  # fmt: skip
    """`torch.nn.functional.conv2d` of piecewise affine products: patches laid out, then a matrix product.

    Args:
        x: [batch, in_channels, height, width].
        weight: [out_channels, in_channels / groups, kernel height, kernel width].
        bias: [out_channels].
        stride: step, one number or two.
        padding: zeros on each side.
        dilation: distance of the kernel's points.
        groups: blocks of channels that do not mix.
        offset: see `mul`.
        approximate_backward: see `mul`.
    """
    out_channels, _, kernel_height, kernel_width = weight.shape
    kernel = (kernel_height, kernel_width)
    size = [
        (length + 2 * p - d * (k - 1) - 1) // s + 1
        for length, k, s, p, d in zip(x.shape[2:], kernel, _two(stride), _two(padding), _two(dilation))
    ]
    high, wide = _two(padding)
    patches = unfold(pad(x, (wide, wide, high, high)), kernel, _two(dilation), 0, _two(stride))
    patches = patches.reshape(len(x), groups, -1, patches.shape[-1])  # [batch, groups, channels x kernel, positions]
    left = weight.reshape(groups, out_channels // groups, -1)
    rows = patches.permute(1, 0, 3, 2).flatten(1, 2)  # [groups, batch x positions, channels x kernel]
    y = matmul(rows, left.mT, offset=offset, approximate_backward=approximate_backward)
    y = y.unflatten(1, (len(x), -1)).permute(1, 0, 3, 2).reshape(len(x), out_channels, *size)
    return y if bias is None else y + bias[:, None, None]


def _two(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
