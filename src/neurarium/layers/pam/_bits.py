"""Products, quotients, logarithms and powers of two by integer operations on the bits of floats. No autograd here.

The bits of a positive float, read as an integer, are a piecewise linear approximation of its logarithm to base 2 (up
to a shift and a scale). Adding them multiplies, approximately.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Format:
    """How a float type lays out its bits.

    Args:
        dtype: the float type.
        integer: the integer type of the same width.
        mantissa_bits: width of the mantissa.
        bias: of the exponent.
        smallest: a smaller product or quotient is 0.
        largest: a larger one is NaN.
    """

    dtype: torch.dtype
    integer: torch.dtype
    mantissa_bits: int
    bias: int
    smallest: float
    largest: float

    @property
    def one(self) -> int:
        """Bits of 1.0."""
        return self.bias << self.mantissa_bits

    @property
    def mantissa(self) -> int:
        """Mask of the mantissa."""
        return (1 << self.mantissa_bits) - 1

    @property
    def normal(self) -> int:
        """Bits of the smallest normal number; what is smaller counts as 0."""
        return 1 << self.mantissa_bits

    @property
    def magnitude(self) -> int:
        """Mask of everything but the sign."""
        return int(torch.iinfo(self.integer).max)

    @property
    def sign(self) -> int:
        """Mask of the sign."""
        return int(torch.iinfo(self.integer).min)

    @property
    def infinity(self) -> int:
        """Bits of infinity, which is also the mask of the exponent."""
        return (2 * self.bias + 1) << self.mantissa_bits

    def bits_of(self, number: float) -> int:
        """Bits of a number in this format."""
        return int(torch.tensor(number, dtype=self.dtype).view(self.integer))


FORMATS = {
    f.dtype: f
    for f in (
        Format(torch.float32, torch.int32, 23, 127, 1e-37, 1e37),
        Format(torch.bfloat16, torch.int16, 7, 127, 1e-37, 1e37),
        Format(torch.float16, torch.int16, 10, 15, 2.0**-14, 65504.0),
        Format(torch.float64, torch.int64, 52, 1023, 1e-307, 1e307),
    )
}
# Limits as bits, once: they are needed at every operation.
LIMITS = {dtype: (f.bits_of(f.smallest), f.bits_of(f.largest)) for dtype, f in FORMATS.items()}


def format_of(x: Tensor) -> Format:
    """The format of a tensor.

    Raises:
        TypeError: not a tensor of floats.
    """
    if x.dtype not in FORMATS:
        kind = str(x.dtype).removeprefix("torch.")
        raise TypeError(f"piecewise affine operations need float32, bfloat16, float16 or float64: got {kind}")
    return FORMATS[x.dtype]


@dataclass(frozen=True)
class Extent:
    """What must be known of a tensor's numbers to add their bits unguarded.

    Args:
        low: bits of the smallest magnitude that is not 0.
        high: bits of the largest.
        mask: all ones where a number is not 0, zeros where it is 0 (or denormal); None if all ones.
    """

    low: int
    high: int
    mask: Tensor | None


def extent(x: Tensor) -> Extent:
    """The extent of a tensor that is not empty."""
    f = format_of(x)
    magnitude = x.view(f.integer) & f.magnitude
    low, high = (int(end) for end in torch.aminmax(magnitude))
    if low >= f.normal:
        return Extent(low, high, None)
    zero = magnitude < f.normal
    return Extent(int(magnitude.masked_fill_(zero, f.one).min()), high, zero.to(f.integer) - 1)


def in_range(a: Extent, b: Extent, dtype: torch.dtype, spare: int = 0) -> bool:
    """Whether every product is within the limits of its type, with so many powers of two to spare."""
    f = FORMATS[dtype]
    smallest, largest = LIMITS[dtype]
    room = spare << f.mantissa_bits
    if max(a.high, b.high) >= f.infinity:
        return False
    return a.low + b.low - f.one - room >= smallest and a.high + b.high - f.one + room <= largest


def product(a: Tensor, b: Tensor, offset: int = 0) -> Tensor:
    """PAM: the bits added, ``I(a) + I(b) - I(1)``, signs by exclusive or.

    0 where a factor is 0 (or denormal) or the result is below the format's ``smallest``; NaN where a factor is infinite
    or NaN or the result is above ``largest``. The limits hold for the result, for want of the true product.

    Args:
        a: float tensor.
        b: of the same type, of a shape that broadcasts.
        offset: added to the bits of the result.
    """
    f = format_of(a)
    ia, ib = a.view(f.integer), b.view(f.integer)
    if a.numel() and b.numel():
        ea, eb = extent(a), extent(b)
        if in_range(ea, eb, a.dtype):  # most often; the sign bits then add up by themselves, modulo two
            bits = ia + (ib - (f.one - offset))
            for mask in (ea.mask, eb.mask):
                bits = bits if mask is None else bits.bitwise_and_(mask)
            return bits.view(a.dtype)
    smallest, largest = LIMITS[a.dtype]
    sign = (ia ^ ib) & f.sign
    ia, ib = ia & f.magnitude, ib & f.magnitude
    total = (ia - f.one) + (ib - f.one)  # cannot overflow while both are finite
    zero = (ia < f.normal) | (ib < f.normal) | (total < smallest - f.one)
    undefined = (ia >= f.infinity) | (ib >= f.infinity) | (~zero & (total > largest - f.one))
    bits = ((total + (f.one + offset)) | sign).masked_fill_(zero, 0)
    return bits.view(a.dtype).masked_fill(undefined, math.nan)


def quotient(a: Tensor, b: Tensor) -> Tensor:
    """PAD: the bits subtracted, ``I(a) - I(b) + I(1)``. Limits as for `product`; NaN where ``b`` is 0."""
    f = format_of(a)
    smallest, largest = LIMITS[a.dtype]
    ia, ib = a.view(f.integer), b.view(f.integer)
    if a.numel() and b.numel():
        ea, eb = extent(a), extent(b)
        finite = max(ea.high, eb.high) < f.infinity
        if finite and eb.mask is None and ea.low - eb.high + f.one >= smallest and ea.high - eb.low + f.one <= largest:
            bits = ia - (ib - f.one)
            return (bits if ea.mask is None else bits.bitwise_and_(ea.mask)).view(a.dtype)
    sign = (ia ^ ib) & f.sign
    ia, ib = ia & f.magnitude, ib & f.magnitude
    total = ia - ib
    zero = (ia < f.normal) | (total < smallest - f.one)
    undefined = (ia >= f.infinity) | (ib >= f.infinity) | (ib < f.normal) | (~zero & (total > largest - f.one))
    bits = ((total + f.one) | sign).masked_fill_(zero, 0)
    return bits.view(a.dtype).masked_fill(undefined, math.nan)


def logarithm(x: Tensor) -> Tensor:
    """plog2: exponent plus mantissa, ``E + M`` for ``x = 2^E (1 + M)``; -inf at 0, NaN below."""
    f = format_of(x)
    bits = x.view(f.integer)
    exponent = ((bits & f.infinity) >> f.mantissa_bits) - f.bias
    mantissa = ((bits & f.mantissa) | f.one).view(x.dtype) - 1
    value = exponent.to(x.dtype) + mantissa
    value = value.masked_fill((bits & f.magnitude) < f.normal, -math.inf).masked_fill(x < -f.smallest, math.nan)
    return torch.where((bits & f.magnitude) >= f.infinity, x.masked_fill(x < 0, math.nan), value)


def power_of_two(x: Tensor) -> Tensor:
    """pexp2: ``2^floor(x) (1 + x - floor(x))``; 0 where no normal number is small enough, inf where none is large."""
    f = format_of(x)
    held = x.clamp(-float(f.bias), float(f.bias) + 1)
    whole = held.floor()
    bits = (held - whole + 1).view(f.integer) + (whole.nan_to_num(0.0).to(f.integer) << f.mantissa_bits)
    value = bits.view(x.dtype).masked_fill(x < 1 - f.bias, 0).masked_fill(x >= f.bias + 1, math.inf)
    return value.masked_fill(x.isnan(), math.nan)


def leading_power(x: Tensor) -> Tensor:
    """``sign(x) 2^E``: the value without its mantissa; 0 at 0."""
    f = format_of(x)
    return (x.view(f.integer) & ~f.mantissa).view(x.dtype)


def product_slope(a: Tensor, b: Tensor, offset: int = 0) -> Tensor:
    """The derivative of ``product`` by ``a``: ``sign(b) 2^(E_b + [M_a + M_b >= 1])``, a power of two; 0 where b is.

    An offset shifts where the mantissas carry.
    """
    f = format_of(a)
    ia, ib = a.view(f.integer), b.view(f.integer)
    carry = ((ia & f.mantissa) + (ib & f.mantissa) + offset) & ~f.mantissa
    slope = (ib & ~f.mantissa) + carry
    return slope.masked_fill((ib & f.magnitude) < f.normal, 0).view(a.dtype)


def constant(number: float, like: Tensor) -> Tensor:
    """A number as a tensor without dimensions, of the type and on the device of another."""
    return torch.full((), number, dtype=like.dtype, device=like.device)
