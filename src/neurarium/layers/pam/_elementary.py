"""Piecewise affine multiplication, division, exponentials, logarithms and powers that autograd can differentiate.

Every function has two backward modes. The exact one is the derivative of the piecewise affine function itself, a power
of two. The approximate one, with which the paper trains, is the derivative of the function that is approximated, its
own products again piecewise affine.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from neurarium.layers.pam._bits import (
    constant,
    format_of,
    leading_power,
    logarithm,
    power_of_two,
    product,
    product_slope,
    quotient,
)  # fmt: skip

LOG2_E = 1 / math.log(2)


class _Mul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, offset: int, approximate: bool) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.offset, ctx.approximate = offset, approximate
        return product(a, b, offset)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        grads: list[Tensor | None] = []
        for needed, own, other in zip(ctx.needs_input_grad, (a, b), (b, a)):
            offset = ctx.offset if ctx.approximate else 0
            factor = other if ctx.approximate else product_slope(own, other, ctx.offset)
            grads.append(product(grad, factor, offset).sum_to_size(own.shape) if needed else None)
        return grads[0], grads[1], None, None


class _Div(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, approximate: bool) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.approximate = approximate
        return quotient(a, b)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        by_a: Tensor | None = None
        by_b: Tensor | None = None
        if ctx.approximate:
            if ctx.needs_input_grad[0]:
                by_a = quotient(grad, b).sum_to_size(a.shape)
            if ctx.needs_input_grad[1]:
                by_b = -quotient(product(a, grad), product(b, b)).sum_to_size(b.shape)
            return by_a, by_b, None
        f = format_of(a)
        borrowed = (a.view(f.integer) & f.mantissa) < (b.view(f.integer) & f.mantissa)
        half = torch.where(borrowed, constant(0.5, a), constant(1.0, a))
        by_a = quotient(product(grad, half), leading_power(b))  # powers of two: both steps are exact
        if ctx.needs_input_grad[1]:
            by_b = -quotient(product(by_a, leading_power(a)), leading_power(b)).sum_to_size(b.shape)
        return by_a.sum_to_size(a.shape) if ctx.needs_input_grad[0] else None, by_b, None


class _Exp2(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, approximate: bool) -> Tensor:
        y = power_of_two(x)
        ctx.save_for_backward(y)
        ctx.approximate = approximate
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        slope = product(y, constant(math.log(2), y)) if ctx.approximate else leading_power(y)
        return product(grad, slope), None


class _Log2(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, approximate: bool) -> Tensor:
        ctx.save_for_backward(x)
        ctx.approximate = approximate
        return logarithm(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        if ctx.approximate:
            return quotient(quotient(grad, x), constant(math.log(2), x)), None
        return quotient(grad, leading_power(x)), None


class _Exp(torch.autograd.Function):
    """``pexp2(PAM(x, log2 e) - shift)``: softmax shifts by whole powers of two, which are exact."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: Tensor, approximate: bool) -> Tensor:
        y = power_of_two(scaled(x) - shift)
        ctx.save_for_backward(x, y)
        ctx.approximate = approximate
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        if ctx.approximate:
            return product(grad, y), None, None
        by_power = product(grad, leading_power(y))
        slope = product_slope(x.masked_fill(x.isinf(), 0), constant(LOG2_E, x))
        return product(by_power, slope), None, None


class _Log(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, approximate: bool) -> Tensor:
        ctx.save_for_backward(x)
        ctx.approximate = approximate
        value = logarithm(x)
        return torch.where(value.isinf(), value, quotient(value, constant(LOG2_E, x)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        if ctx.approximate:
            return quotient(grad, x), None
        f = format_of(x)
        e = constant(LOG2_E, x)
        borrowed = (logarithm(x).view(f.integer) & f.mantissa) < (e.view(f.integer) & f.mantissa)
        by_division = product(grad, torch.where(borrowed, constant(0.5, x), constant(1.0, x)))
        return quotient(by_division, leading_power(x)), None


def scaled(x: Tensor) -> Tensor:
    """``PAM(x, log2 e)`` with -inf kept."""
    return torch.where(x == -math.inf, x, product(x.masked_fill(x == -math.inf, 0), constant(LOG2_E, x)))


def offset_bits(offset: object, like: Tensor) -> int:
    """What an offset constant adds to the bits of a product; checks it."""
    if offset is None:
        return 0
    if isinstance(offset, Tensor) or not isinstance(offset, (int, float)):
        raise TypeError(f"offset must be a plain number, not {type(offset).__name__}: it is not trained")
    if not 0.5 < offset < 2:
        raise ValueError(f"offset must be a factor near 1 (the paper's code names 1.0552), not {offset}")
    f = format_of(like)
    return f.bits_of(offset) - f.one


def _pair(a: Tensor | float, b: Tensor | float) -> tuple[Tensor, Tensor]:
    """Both as tensors of one float type."""
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        raise TypeError("one of the operands must be a tensor")
    like = a if isinstance(a, Tensor) else b
    f = format_of(like)  # type: ignore[arg-type]
    first = a if isinstance(a, Tensor) else torch.full((), float(a), dtype=f.dtype, device=b.device)  # type: ignore[union-attr]
    second = b if isinstance(b, Tensor) else torch.full((), float(b), dtype=f.dtype, device=first.device)
    if first.dtype != second.dtype:
        raise TypeError(f"both operands must have one dtype, not {first.dtype} and {second.dtype}")
    return first, second


def mul(
    a: Tensor | float, b: Tensor | float, *, offset: float | None = None, approximate_backward: bool = True
) -> Tensor:
    """Piecewise affine multiplication (PAM): floats multiplied by adding their bits as integers.

    Between 8/9 of the true product and the product itself, which it is where a factor is a power of two. A product of
    magnitude below 1e-37 is 0 and one above 1e37 NaN (float16: 2^-14 and 65504; float64: 1e-307 and 1e307); denormal
    numbers count as 0; an infinite or NaN factor gives NaN.

    Args:
        a: float32, bfloat16, float16 or float64, or a number.
        b: of the same type and a shape that broadcasts, or a number.
        offset: a constant factor against the underestimation, made by another integer addition; 1.0552 in the paper's
            code. None for none.
        approximate_backward: the derivative of a true product made of piecewise affine ones, else the derivative of
            the piecewise affine function.

    Raises:
        TypeError: no tensor, integers, two types, or an offset that is not a number.
        ValueError: an offset that is not near 1.
    """
    a, b = _pair(a, b)
    return _Mul.apply(a, b, offset_bits(offset, a), approximate_backward)


def div(a: Tensor | float, b: Tensor | float, *, approximate_backward: bool = True) -> Tensor:
    """Piecewise affine division (PAD): bits subtracted; between a / b and 9/8 of it, NaN where ``b`` is 0."""
    a, b = _pair(a, b)
    return _Div.apply(a, b, approximate_backward)


def exp2(x: Tensor, *, approximate_backward: bool = True) -> Tensor:
    """Piecewise affine 2^x: ``2^floor(x) (1 + x - floor(x))``, at most 6.2 % above; 0 below 2^-126."""
    format_of(x)
    return _Exp2.apply(x, approximate_backward)


def log2(x: Tensor, *, approximate_backward: bool = True) -> Tensor:
    """Piecewise affine logarithm to base 2: exponent plus mantissa, at most 0.0861 below; -inf at 0, NaN below."""
    format_of(x)
    return _Log2.apply(x, approximate_backward)


def exp(x: Tensor, *, approximate_backward: bool = True) -> Tensor:
    """Piecewise affine exponential ``exp2(mul(x, log2 e))``."""
    format_of(x)
    return _Exp.apply(x, constant(0.0, x), approximate_backward)


def shifted_exp(x: Tensor, shift: Tensor, approximate_backward: bool) -> Tensor:
    """``exp2(mul(x, log2 e) - shift)`` for whole ``shift``."""
    return _Exp.apply(x, shift, approximate_backward)


def log(x: Tensor, *, approximate_backward: bool = True) -> Tensor:
    """Piecewise affine natural logarithm ``div(log2(x), log2 e)``."""
    format_of(x)
    return _Log.apply(x, approximate_backward)


def pow(x: Tensor, exponent: float, *, approximate_backward: bool = True) -> Tensor:
    """Piecewise affine power ``exp2(mul(log2(x), exponent))`` of a tensor that is not negative; 0 at 0."""
    zero = x.detach() < format_of(x).smallest
    whole = log2(x.masked_fill(zero, 1.0), approximate_backward=approximate_backward)
    power = exp2(mul(whole, exponent, approximate_backward=approximate_backward),
                 approximate_backward=approximate_backward)  # fmt: skip
    return power.masked_fill(zero & (x == x), 0.0).masked_fill(x.detach() < 0, math.nan)


def sqrt(x: Tensor, *, approximate_backward: bool = True) -> Tensor:
    """Piecewise affine square root, ``pow(x, 0.5)``: at most 6.1 % above."""
    return pow(x, 0.5, approximate_backward=approximate_backward)
