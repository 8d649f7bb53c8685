"""Activations that keep a few bits of their input for the backward pass instead of the whole of it."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from neurarium.layers._exact_buffers import ExactBuffers
from neurarium.layers.low_bit._bit_packing import pack_bits, unpack_bits
from neurarium.layers.low_bit._bit_planes import MOST_BITS, decode_planes, encode_planes
from neurarium.layers.low_bit._derivative_levels import Elementwise, Fold, PiecewiseConstant, optimal_derivative


def few_bit_activation(
    x: Float[Tensor, "*shape"],
    fn: Elementwise,
    thresholds: Float[Tensor, thresholds],
    levels: Float[Tensor, levels],
    fold: Fold = "none",
    center: float = 0.0,
) -> Float[Tensor, "*shape"]:
    """``fn(x)``, whose backward pass uses a step function for the derivative (equation 2).

    For the backward pass it keeps the code of each element in ``log2(len(levels))`` bits (see `PiecewiseConstant`) and
    ``levels``, nothing else. Not twice differentiable.

    Args:
        x: input of any floating dtype, shape and strides.
        fn: an elementwise function that does not change its input.
        thresholds: increasing.
        levels: the derivative for each code; a power of two of them, up to 256.
        fold: the symmetry that the codes use.
        center: the point about which it holds.

    Raises:
        ValueError: the number of levels is not 2, 4, ..., 256 or does not fit the thresholds.
    """
    codes = len(levels)
    expected = codes // 2 - 1 if fold == "odd" else codes - 1
    if codes not in (2, 4, 8, 16, 32, 64, 128, 256) or len(thresholds) != expected:
        raise ValueError(
            f"levels must be 2, 4, ..., 256 and fit the thresholds: {codes} levels with fold {fold!r} go with "
            f"{expected} thresholds, not {len(thresholds)}"
        )
    if not (torch.is_grad_enabled() and x.requires_grad):
        return fn(x)
    output: Tensor = _FewBit.apply(x, fn, thresholds, levels, fold, center)
    return output


class _FewBit(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, fn: Elementwise, thresholds: Tensor, levels: Tensor, fold: Fold, center: float
    ) -> Tensor:
        bits, flat = len(levels).bit_length() - 1, x.reshape(-1)
        ctx.planes = _by_planes(x, bits)
        if ctx.planes:
            packed = encode_planes(flat, thresholds.tolist(), bits, fold, center)
        else:
            packed = pack_bits(_encode(flat, thresholds, len(levels), fold, center), bits)
        ctx.save_for_backward(packed, levels)
        ctx.shape, ctx.dtype = x.shape, x.dtype
        return fn(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        packed, levels = ctx.saved_tensors
        flat = grad.reshape(-1)
        if ctx.planes:
            slope = decode_planes(packed, levels, flat)
        else:
            codes = unpack_bits(packed, len(levels).bit_length() - 1, ctx.shape.numel())
            slope = levels[codes.int()].to(grad.dtype) * flat
        return slope.view(ctx.shape).to(ctx.dtype), None, None, None, None, None


def _by_planes(x: Tensor, bits: int) -> bool:
    """Whether the fast codes for the CPU will do; a compiler fuses the others, and cannot look into NumPy."""
    plain = type(x) in (Tensor, nn.Parameter) and x.device.type == "cpu"
    return plain and bits <= MOST_BITS and not torch.compiler.is_compiling()


def _encode(x: Tensor, thresholds: Tensor, codes: int, fold: Fold, center: float) -> Tensor:
    x = x if x.dtype in (torch.float32, torch.float64) else x.float()  # else the thresholds are rounded to x's type
    place = x if fold == "none" else (x - center).abs()
    above = codes // 2 * (x > center).to(torch.uint8) if fold == "odd" else torch.zeros_like(x, dtype=torch.uint8)
    if len(thresholds) > 15:
        return above + torch.bucketize(place, thresholds.to(place.dtype), out_int32=True).to(torch.uint8)
    for threshold in thresholds.unbind():  # fuses into one pass when compiled
        above = above + (place > threshold).to(torch.uint8)
    return above


class FewBitActivation(ExactBuffers):
    """An activation function that keeps ``bits`` per element for its backward pass.

    The output is exact; the gradient uses the best step function in place of the derivative. Drop it in for an
    activation that keeps its *input* (GELU, SiLU, ...). One that keeps its output (ReLU, tanh, sigmoid) shares that
    with a linear layer behind it, and there is nothing to save.

    Args:
        fn: the activation: a module (GELU by default) or an elementwise function.
        bits: bits per element, 1 to 8.
        domain: where the error counts, see `optimal_derivative`.
        weight: density of the inputs; 1 by default.
        symmetry: "auto" uses a symmetry of the derivative, "none" does not.
        table: a step function to use instead of the optimal one.

    Raises:
        ValueError: as `optimal_derivative`; a table's levels are not ``2 ** bits``.
    """

    thresholds: Tensor
    levels: Tensor
    exact = ("thresholds", "levels")

    def __init__(
        self,
        fn: Elementwise | None = None,
        bits: int = 3,
        *,
        domain: tuple[float, float] | None = None,
        weight: Elementwise | None = None,
        symmetry: Literal["auto", "none"] = "auto",
        table: PiecewiseConstant | None = None,
    ) -> None:
        super().__init__()
        self.fn = nn.GELU() if fn is None else _out_of_place(fn)
        self.bits = bits
        if table is None:
            standard = domain is None and weight is None and symmetry == "auto"
            table = built_in(repr(self.fn), bits) if standard else None
        if table is None:
            # ReLU6's derivative is symmetric about 3
            domain = domain or ((-7.0, 13.0) if isinstance(self.fn, nn.ReLU6) else (-10.0, 10.0))
            table = optimal_derivative(self.fn, bits, domain=domain, weight=weight, symmetry=symmetry)
        if len(table.levels) != 2**bits:
            raise ValueError(f"table must have {2**bits} levels for {bits} bits, not {len(table.levels)}")
        self.fold, self.center, self.error = table.fold, table.center, table.error
        self.register_buffer("thresholds", torch.tensor(table.thresholds, dtype=torch.float32))
        self.register_buffer("levels", torch.tensor(table.levels, dtype=torch.float32))

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The exact activation."""
        return few_bit_activation(x, self.fn, self.thresholds, self.levels, self.fold, self.center)

    def extra_repr(self) -> str:
        """The number of bits and the error of the derivative."""
        return f"bits={self.bits}, error={self.error:.3g}"


class FewBitGELU(FewBitActivation):
    """GELU with ``bits`` per element kept for the backward pass; ``approximate`` as in `torch.nn.GELU`."""

    def __init__(self, bits: int = 3, approximate: str = "none") -> None:
        super().__init__(nn.GELU(approximate), bits)


class FewBitSiLU(FewBitActivation):
    """SiLU (swish) with ``bits`` per element kept for the backward pass."""

    def __init__(self, bits: int = 3) -> None:
        super().__init__(nn.SiLU(), bits)


class FewBitMish(FewBitActivation):
    """Mish with ``bits`` per element kept for the backward pass."""

    def __init__(self, bits: int = 3) -> None:
        super().__init__(nn.Mish(), bits)


class FewBitSoftplus(FewBitActivation):
    """Softplus with ``bits`` per element kept for the backward pass; ``beta``, ``threshold`` as in torch's."""

    def __init__(self, bits: int = 3, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__(nn.Softplus(beta, threshold), bits)


class FewBitTanh(FewBitActivation):
    """Tanh with ``bits`` per element kept for the backward pass: the sign costs nothing, its derivative is even."""

    def __init__(self, bits: int = 3) -> None:
        super().__init__(nn.Tanh(), bits)


class FewBitReLU(FewBitActivation):
    """ReLU with its one exact bit kept for the backward pass."""

    def __init__(self, bits: int = 1) -> None:
        super().__init__(nn.ReLU(), bits)


STANDARD: Sequence[nn.Module] = (
    nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Mish(), nn.Softplus(), nn.Tanh(), nn.Sigmoid(), nn.LogSigmoid(),
    nn.ELU(), nn.SELU(), nn.Hardswish(), nn.ReLU(), nn.ReLU6(), nn.Hardtanh(), nn.Hardsigmoid(),
)  # fmt: skip
"""Activations whose tables for 1 to 4 bits come with the package."""


@functools.cache
def _tables() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(files("neurarium.layers").joinpath("few_bit_tables.json").read_text())
    return loaded


def built_in(name: str, bits: int) -> PiecewiseConstant | None:
    """The table that comes with the package for an activation named by its ``repr``, or None."""
    row = _tables().get(f"{name} {bits}")
    if row is None:
        return None
    return PiecewiseConstant(tuple(row["thresholds"]), tuple(row["levels"]), row["error"], row["fold"], row["center"])


def _out_of_place(fn: Elementwise) -> Elementwise:
    if not getattr(fn, "inplace", False):
        return fn
    fn = copy.deepcopy(fn)
    fn.inplace = False  # type: ignore[attr-defined]
    return fn
