"""Convolution with a learnable function of one variable at every place of the kernel."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, silu
from torch.nn.modules.utils import _pair
from torch.utils.checkpoint import checkpoint

from neurarium.layers.kan._basis import Basis
from neurarium.layers.kan._basis_product import BLOCK, basis_columns
from neurarium.layers.kan._smooth_bases import make_basis


def basis_conv2d(
    x: Float[Tensor, "batch channels height width"],
    basis: Basis,
    weight: Float[Tensor, "outputs channels functions rows columns"],
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
) -> Float[Tensor, "batch outputs new_height new_width"]:
    """Convolve the basis functions' maps, of some channels at a time, which are made again in the backward pass.

    Padding adds nothing to the sum: it stands for basis values of 0, not for inputs of 0.
    """

    def part(x: Tensor, weight: Tensor, channels: slice) -> Tensor:
        columns = basis_columns(x.transpose(0, 1).flatten(1), basis, channels)
        maps = columns.unflatten(2, (len(x), *x.shape[2:])).permute(2, 0, 1, 3, 4).flatten(1, 2)
        return conv2d(maps, weight.flatten(1, 2), None, stride, padding, dilation)

    channels = x.shape[1]
    some = max(1, 8 * BLOCK // max(1, basis.size * x.numel() // channels))
    pieces = [slice(c, c + some) for c in range(0, channels, some)]
    exact = torch.promote_types(weight.dtype, torch.float32)
    kind = weight.dtype
    if torch.is_autocast_enabled(x.device.type):
        kind = torch.get_autocast_dtype(x.device.type)
    with torch.autocast(x.device.type, enabled=False):
        x, weight = x.to(exact), weight.to(exact)
        parts = [checkpoint(part, x[:, p], weight[:, p], p, use_reentrant=False) for p in pieces]
    return torch.stack(parts).sum(0).to(kind)


class KANConv2d(nn.Module):
    """Kolmogorov-Arnold convolution, in place of `torch.nn.Conv2d`.

    Output channel ``j`` sums ``φ(x)`` over the window, with a ``φ = w · base + Σ_m c_m B_m`` for each input channel and
    place of the kernel. All arguments are those of `KANLinear` and of `torch.nn.Conv2d`; padding stands for functions
    of value 0. Normalise the input or the output (`torch.nn.BatchNorm2d`, `torch.nn.InstanceNorm2d`): values outside
    the grid's range reach the base function alone.

    Args:
        in_channels: channels of an input.
        out_channels: channels of an output.
        kernel_size: of the window.
        stride: of the window.
        padding: on all sides.
        dilation: spacing within the window.
        basis: a name or a `Basis`, shared by all channels and places (its ``in_features`` is ``in_channels``).
        grid_size: number of intervals of the grid.
        degree: of the splines.
        grid_range: ends of the grid.
        base_activation: "silu", "identity" or None.
        bias: whether a constant is added to each output channel.
        generator: of the initial values.
        device: where the parameters live.
        dtype: of the parameters.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        basis: str | Basis = "bspline",
        grid_size: int = 5,
        degree: int = 3,
        grid_range: tuple[float, float] = (-1.0, 1.0),
        base_activation: str | None = "silu",
        bias: bool = False,
        generator: torch.Generator | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if base_activation not in ("silu", "identity", None):
            raise ValueError(f"base_activation must be 'silu', 'identity' or None, not {base_activation!r}")
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        if isinstance(basis, str):
            basis = make_basis(basis, in_channels, grid_size, degree, grid_range, **where)
        self.in_channels, self.out_channels, self.base_activation = in_channels, out_channels, base_activation
        self.kernel_size: tuple[int, int] = _pair(kernel_size)
        self.stride, self.padding, self.dilation = _pair(stride), _pair(padding), _pair(dilation)
        self.basis = basis
        self.coefficients = nn.Parameter(
            torch.empty(out_channels, in_channels, basis.size, *self.kernel_size, **where)
        )  # fmt: skip
        self.base_weight = (
            nn.Parameter(torch.empty(out_channels, in_channels, *self.kernel_size, **where))
            if base_activation
            else None
        )
        self.bias = nn.Parameter(torch.zeros(out_channels, **where)) if bias else None
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw fresh values: the base as `torch.nn.Conv2d` does, the curves small noise (larger without a base)."""
        bound = 1 / math.sqrt(self.in_channels * math.prod(self.kernel_size))
        noise = (0.3 if self.base_activation else 1.0) * math.sqrt(3 / self.basis.size)
        for parameter, size in ((self.coefficients, bound * noise), (self.base_weight, bound)):
            if parameter is not None:
                device = "cpu" if generator is None else generator.device
                drawn = torch.rand(parameter.shape, generator=generator, device=device)
                parameter.copy_((drawn * 2 - 1) * size)
        if self.bias is not None:
            self.bias.zero_()

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch outputs new_height new_width"]:
        """Convolve."""
        window: tuple[Any, ...] = (self.stride, self.padding, self.dilation)
        output = basis_conv2d(x, self.basis, self.coefficients, *window)
        if self.base_weight is not None:
            base = silu(x) if self.base_activation == "silu" else x
            return output + conv2d(base, self.base_weight, self.bias, *window)
        return output if self.bias is None else output + self.bias[:, None, None]

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
