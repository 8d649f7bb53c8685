"""The rival of few-bit activations: keep the input itself, quantised group by group."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from neurarium.layers.low_bit._bit_packing import pack_bits, unpack_bits
from neurarium.layers.low_bit._derivative_levels import Elementwise


class QuantizedInputActivation(nn.Module):
    """An activation that keeps its input in a few bits, as activation-compressed training does (ActNN, 2104.14129).

    Groups of consecutive elements are scaled to their range and rounded up or down at random, so that the kept input
    is right on average (its derivative is not). The backward pass evaluates the derivative there.

    Args:
        fn: the activation: a module (GELU by default) or an elementwise function.
        bits: bits per element, 1 to 8, besides two float32 numbers per group.
        group_size: elements that share a range.
        generator: for the rounding; torch's global one by default.
    """

    def __init__(
        self,
        fn: Elementwise | None = None,
        bits: int = 2,
        *,
        group_size: int = 256,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(bits, int) or not 1 <= bits <= 8:
            raise ValueError(f"bits must be a whole number from 1 to 8, not {bits!r}")
        if group_size < 1:
            raise ValueError(f"group_size must be at least 1, not {group_size}")
        self.fn = nn.GELU() if fn is None else fn
        self.bits, self.group_size, self.generator = bits, group_size, generator

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The exact activation."""
        if not (torch.is_grad_enabled() and x.requires_grad):
            return self.fn(x)
        output: Tensor = _QuantizedInput.apply(x, self.fn, self.bits, self.group_size, self.generator)
        return output

    def extra_repr(self) -> str:
        """Bits and group size."""
        return f"bits={self.bits}, group_size={self.group_size}"


class _QuantizedInput(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, fn: Elementwise, bits: int, group_size: int, generator: torch.Generator | None
    ) -> Tensor:
        flat = x.reshape(-1).float()
        short = -len(flat) % group_size
        groups = torch.cat([flat, flat[-1:].expand(short)]).view(-1, group_size)
        low, high = groups.aminmax(dim=1, keepdim=True)
        scale = (high - low).clamp_min(1e-30) / (2**bits - 1)
        noise = torch.rand(groups.shape, generator=generator, device=x.device)
        codes = ((groups - low) / scale + noise).floor().clamp_(0, 2**bits - 1).to(torch.uint8).view(-1)
        ctx.save_for_backward(pack_bits(codes[: len(flat)].contiguous(), bits), low, scale)
        ctx.fn, ctx.bits, ctx.group_size, ctx.shape, ctx.dtype = fn, bits, group_size, x.shape, x.dtype
        return fn(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        packed, low, scale = ctx.saved_tensors
        count = ctx.shape.numel()
        codes = unpack_bits(packed, ctx.bits, count).float()
        at = torch.arange(count, device=grad.device) // ctx.group_size
        kept = (low.view(-1)[at] + codes * scale.view(-1)[at]).to(ctx.dtype).view(ctx.shape)
        with torch.enable_grad():
            kept.requires_grad_()
            (slope,) = torch.autograd.grad(ctx.fn(kept), kept, grad)
        return slope, None, None, None, None
